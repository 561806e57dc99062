"""The person who applies: home region, addresses, age, sex and family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from configs.portfolios.home_credit.generator.draws import (
    DAYS_PER_YEAR,
    Booleans,
    Category,
    Columns,
    Floats,
    Integers,
    LevelShares,
    Marginal,
    chance,
    draw_by,
    effect,
    merged,
    to_decimals,
    whole,
)

_REGIONS = {"1": 6.0, "2": 40.0, "3": 25.0}
_RATING = LevelShares.of({"1": 0.105, "2": 0.736, "3": 0.159})
# City ratings by the region's rating: a city is never rated worse than its region.
_CITY_RATING = {
    "1": LevelShares.of({"1": 1.0, "2": 0.0, "3": 0.0}),
    "2": LevelShares.of({"1": 0.006, "2": 0.994, "3": 0.0}),
    "3": LevelShares.of({"1": 0.017, "2": 0.076, "3": 0.907}),
}
_POPULATION = (
    Marginal((0.0005, 0.001, 0.003, 0.009, 0.026, 0.046, 0.056, 0.0725, 0.0725, 0.0725, 0.0725)),
    Marginal((0.0003, 0.0015, 0.004, 0.007, 0.0115, 0.0189, 0.027, 0.0326, 0.0358, 0.0358, 0.0358)),
    Marginal((0.0005, 0.001, 0.002, 0.0035, 0.0095, 0.018, 0.0195, 0.0207, 0.0252, 0.0282, 0.031)),
)
_RATING_STANDING = {"1": 1.8, "2": 0.0, "3": -1.4}
_RATING_EFFECTS = {"1": -0.35, "2": 0.0, "3": 0.3}


@dataclass(frozen=True, slots=True)
class Region:
    """Rating ("1" best to "3"), rating with the city, normalized population; shape (n,) each.

    `score` is standard normal, high in large and well-rated regions.
    """

    rating: Category
    city_rating: Category
    population: Floats
    score: Floats

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "REGION_POPULATION_RELATIVE": self.population,
            "REGION_RATING_CLIENT": self.rating.codes.astype(np.int64) + 1,
            "REGION_RATING_CLIENT_W_CITY": self.city_rating.codes.astype(np.int64) + 1,
        }

    def log_odds(self) -> Floats:
        """Effect of the rating on the log-odds of default."""
        return self.city_rating.values(_RATING_EFFECTS)


def draw_region(rng: np.random.Generator, size: int) -> Region:
    """Draw the home regions of `size` clients."""
    rating = _RATING.draw(rng, size)
    regions = rating.values(_REGIONS)
    # Clients of one region share its population figure, so the column holds few distinct values.
    scores = ndtri((np.floor(regions * rng.random(size)) + 0.5) / regions)
    population = np.choose(rating.codes, [marginal.at(scores) for marginal in _POPULATION])
    # These weights give the sum a variance of 1, which `blend` expects of its drivers.
    standing = 0.9 * rating.values(_RATING_STANDING) + 0.68 * scores
    return Region(rating, draw_by(rng, rating, _CITY_RATING), to_decimals(population, 6), standing)


_EMPLOYED = LevelShares.of(
    {
        "same": 0.703,
        "works elsewhere": 0.203,
        "lives elsewhere": 0.075,
        "all differ": 0.014,
        "registered elsewhere": 0.005,
    }
)
_NOT_EMPLOYED = LevelShares.of(
    {
        "same": 0.975,
        "works elsewhere": 0.0,
        "lives elsewhere": 0.0,
        "all differ": 0.0,
        "registered elsewhere": 0.025,
    }
)
_BY_EMPLOYMENT = {"employed": _EMPLOYED, "not employed": _NOT_EMPLOYED}
_REGISTERED_IS_NOT_HOME = ("lives elsewhere", "all differ", "registered elsewhere")
_REGISTERED_IS_NOT_WORK = ("works elsewhere", "lives elsewhere", "all differ")
_HOME_IS_NOT_WORK = ("works elsewhere", "all differ", "registered elsewhere")
_ACROSS_REGIONS = 0.2


@dataclass(frozen=True, slots=True)
class Address:
    """Registration, home and work compared, by city and by region; shape (n,) each. Other region implies other city."""

    by_city: Category
    by_region: Category

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "REG_REGION_NOT_LIVE_REGION": whole(self.by_region.among(_REGISTERED_IS_NOT_HOME)),
            "REG_REGION_NOT_WORK_REGION": whole(self.by_region.among(_REGISTERED_IS_NOT_WORK)),
            "LIVE_REGION_NOT_WORK_REGION": whole(self.by_region.among(_HOME_IS_NOT_WORK)),
            "REG_CITY_NOT_LIVE_CITY": whole(self.by_city.among(_REGISTERED_IS_NOT_HOME)),
            "REG_CITY_NOT_WORK_CITY": whole(self.by_city.among(_REGISTERED_IS_NOT_WORK)),
            "LIVE_CITY_NOT_WORK_CITY": whole(self.by_city.among(_HOME_IS_NOT_WORK)),
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default."""
        home, work = self.by_city.among(_REGISTERED_IS_NOT_HOME), self.by_city.among(_REGISTERED_IS_NOT_WORK)
        return effect(home, 0.15) + effect(work, 0.1)


def draw_address(rng: np.random.Generator, employed: Booleans) -> Address:
    """Draw the addresses of clients who are `employed` (shape (n,)) or not."""
    group = Category(tuple(_BY_EMPLOYMENT), np.where(employed, np.int16(0), np.int16(1)))
    by_city = draw_by(rng, group, _BY_EMPLOYMENT)
    same = Category(by_city.levels, np.zeros(len(employed), dtype=np.int16))
    return Address(by_city, merged(chance(rng, _ACROSS_REGIONS, len(employed)), by_city, same))


_AGE = Marginal((7_680, 8_260, 9_440, 10_290, 12_450, 15_790, 19_650, 22_100, 23_170, 24_380, 25_200))
_UNKNOWN_SEX = 1.3e-5
# XNA is Home Credit's code for a sex that is not stated; `_draw_sex` draws it apart, as no age makes it likelier.
_SEX = LevelShares.declared("CODE_GENDER", {"F": 1.0, "M": 1.0, "XNA": 0.0})
_AGE_GROUPS = {"below 25": 25.0, "below 35": 35.0, "below 50": 50.0, "below 60": 60.0, "60 and over": 200.0}
_FAMILY = {
    group: LevelShares.declared(
        "NAME_FAMILY_STATUS",
        dict(zip(("Married", "Civil marriage", "Single / not married", "Separated", "Widow"), shares, strict=True)),
    )
    for group, shares in {
        "below 25": (0.33, 0.15, 0.5, 0.02, 0.001),
        "below 35": (0.64, 0.12, 0.2, 0.045, 0.004),
        "below 50": (0.69, 0.1, 0.11, 0.08, 0.02),
        "below 60": (0.64, 0.08, 0.1, 0.075, 0.09),
        "60 and over": (0.54, 0.06, 0.11, 0.065, 0.22),
    }.items()
}
_PARTNERED = ("Married", "Civil marriage")
_CHILDREN_AT_AGE = ((20, 25, 30, 35, 40, 45, 50, 55, 62), (0.1, 0.35, 0.7, 0.95, 0.8, 0.42, 0.18, 0.06, 0.01))
_MOST_CHILDREN = 5
_CHILDREN_BY_FAMILY = {"Married": 1.1, "Civil marriage": 1.1, "Separated": 0.85, "Single / not married": 0.45}
_FAMILY_EFFECTS = {"Single / not married": 0.1, "Civil marriage": 0.12, "Separated": 0.1}


@dataclass(frozen=True, slots=True)
class Person:
    """Age in days and as a standard normal score, sex and family; shape (n,) each."""

    age_days: Floats
    age_score: Floats
    sex: Category
    family: Category
    children: Integers

    @property
    def age(self) -> Floats:
        """Age in years."""
        return self.age_days / DAYS_PER_YEAR

    @property
    def female(self) -> Booleans:
        """Which clients are women."""
        return self.sex.equals("F")

    @property
    def members(self) -> Integers:
        """Family members: the client, a partner and the children."""
        return 1 + self.family.among(_PARTNERED) + self.children

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "CODE_GENDER": self.sex,
            "CNT_CHILDREN": self.children,
            "NAME_FAMILY_STATUS": self.family,
            "DAYS_BIRTH": whole(-self.age_days),
            "CNT_FAM_MEMBERS": self.members.astype(np.float64),
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: falls with age, higher for men and most for young men."""
        # Protected attributes carry risk here as in real data, so leaving them out of a model has a price to measure.
        young_man = ~self.female & (self.age < 30)
        sex = effect(~self.female, 0.25) + effect(young_man, 0.15)
        return self.family.values(_FAMILY_EFFECTS) + sex - 0.15 * self.age_score


def draw_person(rng: np.random.Generator, size: int) -> Person:
    """Draw `size` people."""
    score = rng.standard_normal(size)
    age_days = np.floor(_AGE.at(score))
    family = draw_by(rng, _age_group(age_days / DAYS_PER_YEAR), _FAMILY)
    children = _draw_children(rng, age_days / DAYS_PER_YEAR, family)
    return Person(age_days, score, _draw_sex(rng, score), family, children)


def _age_group(age: Floats) -> Category:
    bounds = tuple(_AGE_GROUPS.values())
    return Category(tuple(_AGE_GROUPS), np.searchsorted(bounds, age, side="right").astype(np.int16))


def _draw_sex(rng: np.random.Generator, age_score: Floats) -> Category:
    size = len(age_score)
    female = chance(rng, expit(0.68 + 0.25 * age_score), size)
    sex = Category(_SEX.levels, np.where(female, np.int16(0), np.int16(1)))
    unknown = Category(_SEX.levels, np.full(size, 2, dtype=np.int16))
    return merged(chance(rng, _UNKNOWN_SEX, size), unknown, sex)


def _draw_children(rng: np.random.Generator, age: Floats, family: Category) -> Integers:
    mean = np.interp(age, *_CHILDREN_AT_AGE) * family.values(_CHILDREN_BY_FAMILY, otherwise=0.7)
    # A binomial and not a Poisson: it has an upper end.
    return rng.binomial(_MOST_CHILDREN, np.minimum(mean / _MOST_CHILDREN, 1.0)).astype(np.int64)
