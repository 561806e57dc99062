"""The building blocks of generated data: categories, distributions, random draws, and the error class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from features.portfolio import Portfolio
from jobs.errors import ProjectError

APPLICATION = Portfolio.load(Path(__file__).resolve().parent.parent).schema
"""The declared columns of an application, and the names of identifier and outcome."""


class SynthesisError(ProjectError):
    """The data cannot be generated or written as asked."""


DAYS_PER_YEAR = 365.25
DAYS_PER_MONTH = 30.44
# Home Credit writes this day, a thousand years ahead, for what has not happened.
NEVER = 365_243

Codes = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Category:
    """One categorical column: `codes` (shape (n,)) point into `levels`, -1 is missing."""

    levels: tuple[str, ...]
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Category:
        return Category(self.levels, self.codes[rows])

    def equals(self, level: str) -> NDArray[np.bool_]:
        """Which rows hold `level`, shape (n,)."""
        return np.equal(self.codes, self.levels.index(level))

    def among(self, levels: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows hold one of `levels`, shape (n,)."""
        return np.isin(self.codes, [self.levels.index(level) for level in levels])

    def only(self, present: NDArray[np.bool_]) -> Category:
        """Make a copy that is missing wherever `present` is False."""
        return Category(self.levels, np.where(present, self.codes, np.int16(-1)))

    def values(self, table: Mapping[str, float], *, otherwise: float = 0.0) -> NDArray[np.float64]:
        """The number that `table` gives for each row's level; `otherwise` for other levels and missing rows."""
        # A missing row's code is -1, which numpy reads as the last entry.
        by_code = [*(table.get(level, otherwise) for level in self.levels), otherwise]
        return np.array(by_code, dtype=np.float64)[self.codes]


def constant(level: str, size: int) -> Category:
    """A column that holds `level` in every row."""
    return Category((level,), np.zeros(size, dtype=np.int16))


def choose(masks: Mapping[str, NDArray[np.bool_]]) -> Category:
    """A column that holds, in each row, the first level of `masks` whose mask is True there; missing if none is."""
    stacked = np.stack(tuple(masks.values()))
    first = np.where(stacked.any(axis=0), stacked.argmax(axis=0), -1)
    return Category(tuple(masks), first.astype(np.int16))


def merged(condition: NDArray[np.bool_], chosen: Category, other: Category) -> Category:
    """Rows of `chosen` where `condition` holds, rows of `other` elsewhere."""
    levels = tuple(dict.fromkeys((*chosen.levels, *other.levels)))
    return Category(levels, np.where(condition, _recoded(chosen, levels), _recoded(other, levels)))


def _recoded(column: Category, levels: tuple[str, ...]) -> Codes:
    return np.array([*map(levels.index, column.levels), -1], dtype=np.int16)[column.codes]


def pick(rng: np.random.Generator, weights: NDArray[np.float64]) -> Codes:
    """One column number per row of `weights` (shape (n, k)), drawn in proportion to the row, shape (n,)."""
    # `>=` passes over a weight of 0 even where random() returns exactly 0; the last bound is left out because rounding
    # may lift a draw up to it.
    cumulative = weights.cumsum(axis=1)
    drawn = rng.random(len(weights)) * cumulative[:, -1]
    picked: Codes = np.sum(drawn[:, None] >= cumulative[:, :-1], axis=1, dtype=np.int16)
    return picked


@dataclass(frozen=True, slots=True)
class LevelShares:
    """Levels and the (unnormalized) weights they are drawn with."""

    levels: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> LevelShares:
        """Make shares for a column that the declaration does not name."""
        return cls(tuple(weights), tuple(weights.values()))

    @classmethod
    def declared(cls, column: str, weights: Mapping[str, float]) -> LevelShares:
        """Make shares for an application column and check its levels.

        Raises
        ------
        SynthesisError
            When the weights do not name exactly the declared levels (the column's missing codes are optional).
        """
        check_levels(column, weights)
        return cls.of(weights)

    def draw(self, rng: np.random.Generator, size: int) -> Category:
        """Draw `size` levels independently."""
        cumulative = np.cumsum(self.weights)
        drawn = rng.random(size) * cumulative[-1]
        return Category(self.levels, np.searchsorted(cumulative[:-1], drawn, side="right").astype(np.int16))

    def draw_tilted(self, rng: np.random.Generator, tilt: NDArray[np.float64]) -> Category:
        """One draw per row of `tilt` (shape (n, number of levels)), which multiplies the weights."""
        return Category(self.levels, pick(rng, tilt * np.array(self.weights)))


def check_levels(column: str, levels: Mapping[str, object]) -> None:
    """Raise SynthesisError unless `levels` names the declared levels of the application column and no others."""
    declaration = APPLICATION[column]
    allowed = {*declaration.levels, *map(str, declaration.missing)}
    unknown, absent = sorted(levels.keys() - allowed), sorted(set(declaration.levels) - levels.keys())
    if unknown or absent:
        raise SynthesisError(f"column '{column}': not declared {unknown}, without a share {absent}")


def draw_by(rng: np.random.Generator, group: Category, shares: Mapping[str, LevelShares]) -> Category:
    """One draw per row of `group`, from the shares of the row's level; all shares have the same levels."""
    table = np.array([shares[level].weights for level in group.levels])
    levels = shares[group.levels[0]].levels
    return Category(levels, pick(rng, table[group.codes]))


Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Columns = dict[str, Floats | Integers | Category]
"""Column name -> values, all of one length. NaN or code -1 is missing."""


def effect(condition: Booleans, amount: float) -> Floats:
    """The number `amount` where `condition` holds, 0 elsewhere, shape (n,)."""
    return np.where(condition, amount, 0.0)


def whole(values: Floats | Booleans) -> Integers:
    """Values cut to whole numbers, shape (n,)."""
    return values.astype(np.int64)


def to_multiple(values: Floats, step: Floats | float) -> Floats:
    """Values rounded to the nearest multiple of `step`, shape (n,)."""
    return np.rint(values / step) * step


def to_decimals(values: Floats, decimals: int) -> Floats:
    """Values rounded to a number of decimals, shape (n,)."""
    # A division by 10**k gives the double that prints with k decimals; a product with 0.1**k may not.
    scale = 10.0**decimals
    return np.rint(values * scale) / scale


def missing_where(condition: Booleans, values: Floats | Integers) -> Floats:
    """Values as float64, NaN where `condition` holds, shape (n,)."""
    return np.where(condition, np.nan, values)


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows of several owners one after the other.

    `lengths` has one entry per owner; `owner` (whose row it is) and `step` (0, 1, ... within the owner) one per row.
    """

    lengths: Integers
    owner: Integers
    step: Integers


def runs(lengths: Integers) -> Runs:
    """Number the rows of owners who have `lengths` rows each.

    >>> runs(np.array([2, 0, 1])).owner.tolist(), runs(np.array([2, 0, 1])).step.tolist()
    ([0, 0, 2], [0, 1, 0])
    """
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    return Runs(lengths, owner, np.arange(len(owner)) - first[owner])


GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Marginal:
    """A distribution given by its rounded quantiles at `probabilities`, linear in between."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...] = GRID

    def at(self, scores: Floats) -> Floats:
        """The quantiles at standard normal `scores`, shape (n,)."""
        # Ranks of normal scores: columns that share a score are joined by a Gaussian copula, whatever their marginals.
        return np.interp(ndtr(scores), self.probabilities, self.values)


@dataclass(frozen=True, slots=True)
class CountDistribution:
    """A distribution of the counts 0, 1, 2, ..., given by their shares."""

    shares: tuple[float, ...]

    def at(self, scores: Floats) -> Floats:
        """The counts at standard normal `scores`, shape (n,)."""
        bounds = np.cumsum(self.shares)[:-1] / sum(self.shares)
        return np.searchsorted(bounds, ndtr(scores), side="right").astype(np.float64)


def blend(rng: np.random.Generator, *weighted: tuple[float, Floats]) -> Floats:
    """Scores with the given correlations to independent standard normal drivers, shape (n,): standard normal again."""
    # The squares of all weights, the noise's included, add up to 1, so the variance of the sum is 1 too.
    noise = math.sqrt(1.0 - sum(weight**2 for weight, _ in weighted))
    scores = noise * rng.standard_normal(len(weighted[0][1]))
    for weight, driver in weighted:
        scores += weight * driver
    return scores


def chance(rng: np.random.Generator, probability: Floats | float, size: int) -> Booleans:
    """Independent draws that are True with the given probability, shape (size,)."""
    return rng.random(size) < probability
