"""Who applies: age, sex and family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .category import Category, Shares, draw_by, merged
from .columns import Booleans, Columns, Floats, Integers, effect, whole
from .copula import Marginal, chance
from .days import DAYS_PER_YEAR

_AGE = Marginal((7_680, 8_260, 9_440, 10_290, 12_450, 15_790, 19_650, 22_100, 23_170, 24_380, 25_200))
_UNKNOWN_SEX = 1.3e-5
_SEX = Shares.declared("CODE_GENDER", {"F": 1.0, "M": 1.0, "XNA": 0.0})
_AGE_GROUPS = {"below 25": 25.0, "below 35": 35.0, "below 50": 50.0, "below 60": 60.0, "60 and over": 200.0}
_FAMILY = {
    group: Shares.declared(
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
        """The application columns that this part states."""
        return {
            "CODE_GENDER": self.sex,
            "CNT_CHILDREN": self.children,
            "NAME_FAMILY_STATUS": self.family,
            "DAYS_BIRTH": whole(-self.age_days),
            "CNT_FAM_MEMBERS": self.members.astype(np.float64),
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: falls with age, higher for men and most for young men."""
        young_man = ~self.female & (self.age < 30)
        sex = effect(~self.female, 0.25) + effect(young_man, 0.15)
        return self.family.values(_FAMILY_EFFECTS) + sex - 0.15 * self.age_score


def draw_person(rng: np.random.Generator, size: int) -> Person:
    """`size` people."""
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
    return rng.binomial(_MOST_CHILDREN, np.minimum(mean / _MOST_CHILDREN, 1.0)).astype(np.int64)
