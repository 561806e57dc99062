"""Row-wise operations, from which the formulas of features are made.

Names are versions: an operation never changes what it computes, since models hold formulas by these names. Every
operation takes `values` of shape (m, k, n), which holds the m source values of k features in n rows, and
`weights` of shape (w, k, 1), and returns shape (k, n). Each row is computed from itself alone with a fixed order of
operations, so the result for a row has the same bits in any batch. NaN is a missing value and never becomes a number
unless the operation says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Operation(Protocol):
    """A function from source values (m, k, n) and weights (w, k, 1) to features (k, n)."""

    __name__: str

    def __call__(self, values: Values, weights: Values, /) -> Values:
        """The features of every row."""
        ...


def _added(values: Values) -> Values:
    # np.sum may add in another order for another shape, which changes the last bits.
    added: Values = values[0]
    for value in values[1:]:
        added = added + value
    return added


def _or_missing(values: Values, known: NDArray[np.bool_]) -> Values:
    return np.where(known, values, np.nan)


def ratio(values: Values, _: Values, /) -> Values:
    """First over second source; NaN where either is missing or the second is 0.

    >>> ratio(np.array([[[6.0, 6.0]], [[3.0, 0.0]]]), np.empty((0, 1, 1)))
    array([[ 2., nan]])
    """
    # A tiny constant in the denominator would turn an income of 0 into a huge ratio.
    numerator, denominator = values[0, ...], values[1, ...]
    return numerator / _or_missing(denominator, denominator != 0)


def difference(values: Values, _: Values, /) -> Values:
    """First minus second source."""
    return values[0, ...] - values[1, ...]


def scaled(values: Values, weights: Values, /) -> Values:
    """The source times its weight."""
    return values[0, ...] * weights[0, ...]


def missing(values: Values, _: Values, /) -> Values:
    """1 where the source is missing, else 0."""
    return np.isnan(values[0, ...]).astype(np.float64)


def missing_count(values: Values, _: Values, /) -> Values:
    """How many of the sources are missing."""
    return np.asarray(np.isnan(values).sum(axis=0), dtype=np.float64)


def total(values: Values, _: Values, /) -> Values:
    """Sum of the sources that are present, NaN if none is. Meant for whole numbers, whose sums are exact."""
    missing = np.isnan(values)
    return _or_missing(np.where(missing, 0.0, values).sum(axis=0), ~np.logical_and.reduce(missing, axis=0))


def weighted_mean(values: Values, weights: Values, /) -> Values:
    """Mean of the sources that are present, each counted with its weight; NaN if none is present.

    >>> weighted_mean(np.array([[[1.0, np.nan]], [[np.nan, np.nan]], [[2.0, np.nan]]]), np.ones((3, 1, 1)))
    array([[1.5, nan]])
    """
    missing = np.isnan(values)
    weight = _added(np.where(missing, 0.0, weights))
    return _added(np.where(missing, 0.0, values * weights)) / _or_missing(weight, weight > 0)


def minimum(values: Values, _: Values, /) -> Values:
    """Smallest source that is present, NaN if none is."""
    return np.asarray(np.fmin.reduce(values, axis=0))


def maximum(values: Values, _: Values, /) -> Values:
    """Largest source that is present, NaN if none is."""
    return np.asarray(np.fmax.reduce(values, axis=0))


def deviation(values: Values, _: Values, /) -> Values:
    """Population standard deviation of the sources that are present, NaN if none is."""
    missing = np.isnan(values)
    count = len(values) - np.add.reduce(missing, axis=0, dtype=np.float64)
    known = _or_missing(count, count > 0)
    # Two passes: the mean of squares less the square of the mean loses digits where the values are close.
    centred = values - _added(np.where(missing, 0.0, values)) / known
    return np.sqrt(_added(np.where(missing, 0.0, centred * centred)) / known)


def product(values: Values, _: Values, /) -> Values:
    """Product of the sources, NaN where any is missing."""
    result: Values = values[0]
    for value in values[1:]:
        result = result * value
    return result


def plus(values: Values, _: Values, /) -> Values:
    """First plus second source."""
    return values[0, ...] + values[1, ...]


def coalesce(values: Values, _: Values, /) -> Values:
    """The first source, or the second where the first is missing."""
    return np.where(np.isnan(values[0, ...]), values[1, ...], values[0, ...])


def when(values: Values, _: Values, /) -> Values:
    """The second source where the first is not 0, else the third; NaN where the first is missing."""
    condition = values[0, ...]
    return _or_missing(np.where(condition != 0, values[1, ...], values[2, ...]), ~np.isnan(condition))


def absolute(values: Values, _: Values, /) -> Values:
    """The source without its sign."""
    return np.abs(values[0, ...])


def log1p(values: Values, _: Values, /) -> Values:
    """Natural logarithm of 1 plus the source; NaN where that is not positive."""
    return np.log1p(_or_missing(values[0, ...], values[0, ...] > -1))


def clip(values: Values, _: Values, /) -> Values:
    """The first source, within the second and the third."""
    return np.minimum(np.maximum(values[0, ...], values[1, ...]), values[2, ...])


def every(values: Values, _: Values, /) -> Values:
    """1 where no source is 0, else 0; NaN where any is missing."""
    return _compared((values != 0).all(axis=0), values)


def either(values: Values, _: Values, /) -> Values:
    """1 where some source is not 0, else 0; NaN where any is missing."""
    return _compared((values != 0).any(axis=0), values)


def negation(values: Values, _: Values, /) -> Values:
    """1 where the source is 0, else 0; NaN where it is missing."""
    return _or_missing((values[0, ...] == 0).astype(np.float64), ~np.isnan(values[0, ...]))


def less(values: Values, _: Values, /) -> Values:
    """1 where the first source is below the second, else 0; NaN where either is missing."""
    return _compared(values[0, ...] < values[1, ...], values)


def at_most(values: Values, _: Values, /) -> Values:
    """1 where the first source is at most the second, else 0; NaN where either is missing."""
    return _compared(values[0, ...] <= values[1, ...], values)


def more(values: Values, _: Values, /) -> Values:
    """1 where the first source is above the second, else 0; NaN where either is missing."""
    return _compared(values[0, ...] > values[1, ...], values)


def at_least(values: Values, _: Values, /) -> Values:
    """1 where the first source is at least the second, else 0; NaN where either is missing."""
    return _compared(values[0, ...] >= values[1, ...], values)


def equal(values: Values, _: Values, /) -> Values:
    """1 where both sources are equal, else 0; NaN where either is missing."""
    return _compared(values[0, ...] == values[1, ...], values)


def unequal(values: Values, _: Values, /) -> Values:
    """1 where the sources differ, else 0; NaN where either is missing."""
    return _compared(values[0, ...] != values[1, ...], values)


def _compared(true: Any, values: Values) -> Values:
    return _or_missing(np.asarray(true, dtype=np.float64), ~np.logical_or.reduce(np.isnan(values), axis=0))


OPERATIONS: Mapping[str, Operation] = {
    operation.__name__: operation
    for operation in (
        ratio, difference, scaled, missing, missing_count, total, weighted_mean, minimum, maximum, deviation, product,
        plus, coalesce, when, absolute, log1p, clip, every, either, negation, less, at_most, more, at_least, equal,
        unequal,
    )
}  # fmt: skip
"""Every operation by its name in expressions."""
