"""What the client owns: car, home."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .category import Category, Shares, merged
from .columns import Booleans, Columns, Floats
from .copula import Marginal, blend, chance
from .employment import Employment
from .person import Person

_CAR_AGE = Marginal(
    (0, 1, 2, 5, 9, 15, 22, 28, 40, 64, 65, 66),
    (0.0, 0.04, 0.1, 0.25, 0.5, 0.75, 0.9, 0.945, 0.969, 0.97, 0.993, 1.0),
)
_YES_NO = ("N", "Y")
_HOUSING = Shares.declared(
    "NAME_HOUSING_TYPE",
    {
        "House / apartment": 0.93,
        "Municipal apartment": 0.039,
        "Rented apartment": 0.017,
        "Office apartment": 0.009,
        "Co-op apartment": 0.004,
        "With parents": 0.0,
    },
)
_WITH_PARENTS_AT_AGE = ((21, 24, 28, 33, 38, 43, 50, 60), (0.24, 0.19, 0.135, 0.08, 0.05, 0.026, 0.012, 0.004))
_HOUSING_EFFECTS = {"With parents": 0.25, "Rented apartment": 0.35, "Municipal apartment": 0.08}


@dataclass(frozen=True, slots=True)
class Property:
    """Car, its age in years (NaN without a car), home and housing; shape (n,) each."""

    car: Booleans
    car_age: Floats
    realty: Booleans
    housing: Category

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "FLAG_OWN_CAR": _yes_no(self.car),
            "FLAG_OWN_REALTY": _yes_no(self.realty),
            "OWN_CAR_AGE": self.car_age,
            "NAME_HOUSING_TYPE": self.housing,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: a car lowers them, an old car less so."""
        car = np.where(self.car, -0.2 + 0.012 * np.minimum(np.nan_to_num(self.car_age), 30), 0.0)
        return car + self.housing.values(_HOUSING_EFFECTS)


def draw_property(rng: np.random.Generator, person: Person, employment: Employment) -> Property:
    """What each client owns."""
    size = len(person.age)
    car = chance(rng, _car_probability(person, employment), size)
    car_age = np.rint(_CAR_AGE.at(blend(rng, (-0.22, employment.income_score))))
    realty = chance(rng, expit(0.86 + 0.2 * person.age_score), size)
    return Property(car, np.where(car, car_age, np.nan), realty, _draw_housing(rng, person))


def _car_probability(person: Person, employment: Employment) -> Floats:
    return expit(-1.2 + 1.5 * ~person.female + 0.45 * employment.income_score - 0.5 * ~employment.employed)


def _draw_housing(rng: np.random.Generator, person: Person) -> Category:
    size = len(person.age)
    parents = Category(_HOUSING.levels, np.full(size, _HOUSING.levels.index("With parents"), dtype=np.int16))
    return merged(chance(rng, np.interp(person.age, *_WITH_PARENTS_AT_AGE), size), parents, _HOUSING.draw(rng, size))


def _yes_no(flag: Booleans) -> Category:
    return Category(_YES_NO, flag.astype(np.int16))
