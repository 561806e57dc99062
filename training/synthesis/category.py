"""Categorical columns: drawn values, and the shares they are drawn with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION

from .errors import SynthesisError

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
        """The same column, missing wherever `present` is False."""
        return Category(self.levels, np.where(present, self.codes, np.int16(-1)))

    def values(self, table: Mapping[str, float], *, otherwise: float = 0.0) -> NDArray[np.float64]:
        """The number that `table` gives for each row's level; `otherwise` for other levels and missing rows."""
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
    cumulative = weights.cumsum(axis=1)
    drawn = rng.random(len(weights)) * cumulative[:, -1]
    picked: Codes = np.sum(drawn[:, None] >= cumulative[:, :-1], axis=1, dtype=np.int16)
    return picked


@dataclass(frozen=True, slots=True)
class Shares:
    """Levels and the (unnormalized) weights they are drawn with."""

    levels: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> Shares:
        """Shares of a column that is not declared."""
        return cls(tuple(weights), tuple(weights.values()))

    @classmethod
    def declared(cls, column: str, weights: Mapping[str, float]) -> Shares:
        """Shares of an application column.

        Raises
        ------
        SynthesisError
            When the weights do not name exactly the declared levels (the column's missing codes are optional).
        """
        check_levels(column, weights)
        return cls.of(weights)

    def draw(self, rng: np.random.Generator, size: int) -> Category:
        """`size` independent draws."""
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


def draw_by(rng: np.random.Generator, group: Category, shares: Mapping[str, Shares]) -> Category:
    """One draw per row of `group`, from the shares of the row's level; all shares have the same levels."""
    table = np.array([shares[level].weights for level in group.levels])
    levels = shares[group.levels[0]].levels
    return Category(levels, pick(rng, table[group.codes]))
