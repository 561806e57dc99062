"""The client's property, and the building of the home: 14 measures, the total area and four labels.

Each measure comes as average, mode and median.

A building that is not on record has none of the columns. One on record lacks some, the same ones in all three
statistics; how complete a record is runs through all its columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, ndtri

from configs.portfolios.home_credit.generator.draws import (
    APPLICATION,
    Booleans,
    Category,
    Columns,
    Floats,
    LevelShares,
    Marginal,
    SynthesisError,
    blend,
    chance,
    merged,
    to_decimals,
    to_multiple,
)
from configs.portfolios.home_credit.generator.person import Person, Region
from configs.portfolios.home_credit.generator.work import Employment

_CAR_AGE = Marginal(
    (0, 1, 2, 5, 9, 15, 22, 28, 40, 64, 65, 66),
    (0.0, 0.04, 0.1, 0.25, 0.5, 0.75, 0.9, 0.945, 0.969, 0.97, 0.993, 1.0),
)
_YES_NO = ("N", "Y")
_HOUSING = LevelShares.declared(
    "NAME_HOUSING_TYPE",
    {
        "House / apartment": 0.93,
        "Municipal apartment": 0.039,
        "Rented apartment": 0.017,
        "Office apartment": 0.009,
        "Co-op apartment": 0.004,
        "With parents": 0.0,  # drawn by age instead
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
        """The application columns that this part fills."""
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
    """Draw car, home and housing of each client."""
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


_UNRECORDED = 0.47
# Correlation of the gaps within one record: independent gaps in 14 measures would leave hardly any record complete.
_COMPLETENESS = 0.95


class _Measure(NamedTuple):
    """Share missing, correlations with size and height of the building, grid of the values (0: none), quantiles."""

    missing: float
    size: float
    height: float
    grid: float
    marginal: Marginal


_MEASURES = {
    "APARTMENTS": _Measure(
        0.506, 0.8, 0.55, 0,
        Marginal((0, 0.002, 0.009, 0.0175, 0.059, 0.087, 0.149, 0.246, 0.331, 0.555, 1)),
    ),
    "BASEMENTAREA": _Measure(
        0.583, 0.75, 0.15, 0,
        Marginal((0, 0, 0.044, 0.076, 0.112, 0.173, 0.229, 0.39, 1), (0, 0.117, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)),
    ),
    "YEARS_BEGINEXPLUATATION": _Measure(
        0.489, 0.15, 0.5, 0.0005,
        Marginal((0, 0.951, 0.969, 0.973, 0.977, 0.982, 0.987, 0.991, 0.996, 0.999, 1)),
    ),
    "YEARS_BUILD": _Measure(
        0.664, 0.15, 0.5, 0.0068,
        Marginal((0, 0.402, 0.599, 0.633, 0.687, 0.755, 0.823, 0.878, 0.946, 0.986, 1)),
    ),
    "COMMONAREA": _Measure(
        0.698, 0.5, 0.35, 0,
        Marginal((0, 0, 0.008, 0.021, 0.051, 0.105, 0.163, 0.376, 1), (0, 0.09, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)),
    ),
    "ELEVATORS": _Measure(
        0.532, 0.3, 0.88, 0.04,
        Marginal((0, 0, 0.08, 0.12, 0.24, 0.36, 0.64, 1), (0, 0.595, 0.66, 0.75, 0.9, 0.95, 0.99, 1)),
    ),
    "ENTRANCES": _Measure(
        0.503, 0.75, -0.2, 1 / 29,
        Marginal((0, 0.034, 0.035, 0.038, 0.07, 0.138, 0.207, 0.276, 0.31, 0.552, 1)),
    ),
    "FLOORSMAX": _Measure(
        0.497, 0.2, 0.95, 1 / 24,
        Marginal(
            (0, 0, 0.042, 0.042, 0.125, 0.167, 0.167, 0.29, 0.333, 0.333, 0.375, 0.5, 0.667, 1),
            (0, 0.02, 0.025, 0.115, 0.2, 0.205, 0.6, 0.655, 0.66, 0.86, 0.9, 0.95, 0.99, 1),
        ),
    ),
    "FLOORSMIN": _Measure(
        0.677, 0.1, 0.65, 1 / 24,
        Marginal((0, 0, 0.042, 0.042, 0.084, 0.208, 0.375, 0.417, 0.5, 0.708, 1)),
    ),
    "LANDAREA": _Measure(
        0.591, 0.5, 0.1, 0,
        Marginal((0, 0, 0.019, 0.048, 0.085, 0.143, 0.199, 0.398, 1), (0, 0.12, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)),
    ),
    "LIVINGAPARTMENTS": _Measure(
        0.683, 0.79, 0.54, 0,
        Marginal((0, 0.003, 0.01, 0.02, 0.05, 0.075, 0.121, 0.21, 0.282, 0.467, 1)),
    ),
    "LIVINGAREA": _Measure(
        0.502, 0.77, 0.58, 0,
        Marginal((0, 0.002, 0.008, 0.015, 0.047, 0.075, 0.131, 0.237, 0.327, 0.565, 1)),
    ),
    "NONLIVINGAPARTMENTS": _Measure(
        0.694, 0.15, 0.2, 0.0039,
        Marginal((0, 0, 0.004, 0.015, 0.031, 0.105, 0.35, 1), (0, 0.575, 0.75, 0.9, 0.95, 0.99, 0.998, 1)),
    ),
    "NONLIVINGAREA": _Measure(
        0.55, 0.1, 0.2, 0,
        Marginal((0, 0, 0.004, 0.028, 0.082, 0.13, 0.339, 1), (0, 0.418, 0.5, 0.75, 0.9, 0.95, 0.99, 1)),
    ),
}  # fmt: skip
_TOTAL = _Measure(
    0.483, 0.77, 0.58, 0, Marginal((0, 0.002, 0.007, 0.013, 0.042, 0.069, 0.13, 0.233, 0.312, 0.544, 1))
)  # fmt: skip

_MODE_FACTOR = Marginal((0.2, 0.3, 0.65, 0.9, 1.01, 1.03, 1.035, 1.042, 1.045, 1.05, 1.6))
_MEDIAN_FACTOR = Marginal((0.3, 0.8, 0.99, 1, 1.006, 1.01, 1.014, 1.018, 1.022, 1.1, 1.4))
_EQUAL_ON_GRID = {"MODE": 0.9, "MEDI": 0.96}

_LABELS = {
    "FONDKAPREMONT_MODE": (
        0.683,
        {"reg oper account": 0.758, "reg oper spec account": 0.122, "org spec account": 0.06, "not specified": 0.06},
    ),
    "HOUSETYPE_MODE": (0.5, {"block of flats": 0.981, "specific housing": 0.01, "terraced house": 0.009}),
    "WALLSMATERIAL_MODE": (
        0.507,
        {
            "Panel": 0.44, "Stone, brick": 0.423, "Block": 0.063, "Wooden": 0.035, "Mixed": 0.015, "Monolithic": 0.013,
            "Others": 0.011,
        },
    ),
    "EMERGENCYSTATE_MODE": (0.474, {"No": 0.986, "Yes": 0.014}),
}  # fmt: skip
_LABEL_SHARES = {name: LevelShares.declared(name, shares) for name, (_, shares) in _LABELS.items()}

_DECLARED = {column.name.removesuffix("_AVG") for column in APPLICATION.stated if column.name.endswith("_AVG")}
if _MEASURES.keys() != _DECLARED:
    # At import, before any row is drawn.
    raise SynthesisError(f"building measures declared or generated, not both: {sorted(_DECLARED ^ _MEASURES.keys())}")


def draw_building(rng: np.random.Generator, owned: Property, region: Region) -> Columns:
    """Draw the 47 columns of each client's building."""
    size, height = rng.standard_normal(len(owned.car)), blend(rng, (0.18, region.score))
    # Minus infinity is below every threshold of `_present`: a building not on record lacks all columns.
    completeness = np.where(_recorded(rng, owned, region), rng.standard_normal(len(size)), -np.inf)
    columns: Columns = {}
    for name, measure in _MEASURES.items():
        columns |= _statistics(rng, name, measure, _draw_measure(rng, measure, size, height, completeness))
    columns["TOTALAREA_MODE"] = _draw_measure(rng, _TOTAL, size, height, completeness)
    return columns | {name: _draw_label(rng, name, completeness) for name in _LABELS}


def _recorded(rng: np.random.Generator, owned: Property, region: Region) -> Booleans:
    """Buildings are on record more often in well-rated regions, less often for tenants and with parents."""
    elsewhere = owned.housing.among(("With parents", "Rented apartment", "Office apartment"))
    # 0.195 leaves the share _UNRECORDED off the record: the two figures change together.
    return chance(rng, expit(0.195 + 0.5 * region.score - 0.6 * elsewhere), len(elsewhere))


def _present(rng: np.random.Generator, missing: float, completeness: Floats) -> Booleans:
    """Which records hold a column that the share `missing` of all clients lacks."""
    # Clients off the record lack the column already; only the rest of the missing share falls on recorded buildings.
    threshold = ndtri(max(missing - _UNRECORDED, 0.0) / (1 - _UNRECORDED))
    own = np.sqrt(1 - _COMPLETENESS**2) * rng.standard_normal(len(completeness))
    present: Booleans = _COMPLETENESS * completeness + own > threshold
    return present


def _draw_measure(
    rng: np.random.Generator, measure: _Measure, size: Floats, height: Floats, completeness: Floats
) -> Floats:
    scores = blend(rng, (measure.size, size), (measure.height, height))
    values = measure.marginal.at(scores)
    if measure.grid:
        values = np.minimum(to_multiple(values, measure.grid), 1.0)
    return np.where(_present(rng, measure.missing, completeness), to_decimals(values, 4), np.nan)


def _statistics(rng: np.random.Generator, name: str, measure: _Measure, average: Floats) -> Columns:
    """Average, mode and median of one measure: equal or nearly so."""
    if measure.grid:
        mode, median = (_off_grid(rng, average, measure.grid, share) for share in _EQUAL_ON_GRID.values())
    else:
        mode = average * _MODE_FACTOR.at(rng.standard_normal(len(average)))
        median = average * _MEDIAN_FACTOR.at(rng.standard_normal(len(average)))
    return {f"{name}_AVG": average, f"{name}_MODE": _share(mode), f"{name}_MEDI": _share(median)}


def _off_grid(rng: np.random.Generator, average: Floats, grid: float, equal: float) -> Floats:
    """The average, moved by one grid step except in the share `equal` of rows; zero stays zero."""
    moved = ~chance(rng, equal, len(average)) & (average > 0)
    return average + np.where(moved, grid * rng.choice((-1.0, 1.0), len(average)), 0.0)


def _share(values: Floats) -> Floats:
    return to_decimals(np.minimum(np.maximum(values, 0.0), 1.0), 4)


def _draw_label(rng: np.random.Generator, name: str, completeness: Floats) -> Category:
    missing, _ = _LABELS[name]
    return _LABEL_SHARES[name].draw(rng, len(completeness)).only(_present(rng, missing, completeness))
