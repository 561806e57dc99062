"""Row-wise operations, from which the formulas of features are made.

Names are versions: an operation never changes what it computes, since models hold formulas by these names. Every
operation takes `values` of shape (m, k, n), which holds the m source values of k features in n rows, and
`weights` of shape (w, k, 1), and returns shape (k, n). Each row is computed from itself alone with a fixed order of
operations, so the result for a row has the same bits in any batch. NaN is a missing value and never becomes a number
unless the operation says so.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
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

WEIGHTED = frozenset({"scaled", "weighted_mean"})
"""The operations that take the numbers of a formula as weights."""

RowOperation = Callable[[Sequence[float], Sequence[float]], float]
"""An operation for one feature of one row: the m source values and the w weights."""


def row_operation(name: str) -> RowOperation:
    """The operation for a single row, with the bits of the operation of that name.

    >>> row_operation("ratio")((6.0, 3.0), ()), row_operation("log1p")((0.0,), ())
    (2.0, 0.0)
    """
    return _IN_FLOATS.get(name) or _in_arrays(OPERATIONS[name])


def _in_arrays(operation: Operation) -> RowOperation:
    def of(values: Sequence[float], weights: Sequence[float]) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            found = operation(np.array(values).reshape(-1, 1, 1), np.array(weights).reshape(-1, 1, 1))
        return float(found[0, 0])

    return of


# In floats, since each call of NumPy takes half a microsecond, and one row needs a hundred of them. The order of
# additions is that of the arrays. Every test of rows alone and together compares the two.


def _row_total(values: Sequence[float], _: Sequence[float]) -> float:
    added = reduce(operator.add, [value if value == value else 0.0 for value in values])
    return math.nan if all(map(math.isnan, values)) else added


def _row_weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    added, weight = -0.0, 0.0  # as a sum of -0.0 alone is -0.0
    for value, each in zip(values, weights, strict=True):
        missing = value != value
        added += 0.0 if missing else value * each
        weight += 0.0 if missing else each
    return added / weight if weight > 0 else math.nan


def _row_extreme(better: Callable[[float, float], bool]) -> RowOperation:
    def of(values: Sequence[float], _: Sequence[float]) -> float:
        found = math.nan
        for value in values:
            if found != found or better(value, found):  # of 0.0 and -0.0 the later one, as NumPy takes
                found = value
        return found

    return of


def _row_deviation(values: Sequence[float], _: Sequence[float]) -> float:
    present = [value for value in values if value == value]
    if not present:
        return math.nan
    mean = reduce(operator.add, present) / len(present)
    return math.sqrt(reduce(operator.add, [(value - mean) * (value - mean) for value in present]) / len(present))


def _row_compared(true: Callable[[float, float], bool]) -> RowOperation:
    return lambda v, _: math.nan if v[0] != v[0] or v[1] != v[1] else float(true(v[0], v[1]))


_IN_FLOATS: Mapping[str, RowOperation] = {
    "ratio": lambda v, _: v[0] / (v[1] or math.nan),
    "difference": lambda v, _: v[0] - v[1],
    "scaled": lambda v, weights: v[0] * weights[0],
    "missing": lambda v, _: float(v[0] != v[0]),
    "missing_count": lambda v, _: float(sum(map(math.isnan, v))),
    "total": _row_total,
    "weighted_mean": _row_weighted_mean,
    "minimum": _row_extreme(operator.le),
    "maximum": _row_extreme(operator.ge),
    "deviation": _row_deviation,
    "product": lambda v, _: reduce(operator.mul, v),
    "plus": lambda v, _: v[0] + v[1],
    "coalesce": lambda v, _: v[0] if v[0] == v[0] else v[1],
    "when": lambda v, _: math.nan if v[0] != v[0] else v[1] if v[0] else v[2],
    "absolute": lambda v, _: abs(v[0]),
    "less": _row_compared(operator.lt),
    "at_most": _row_compared(operator.le),
    "more": _row_compared(operator.gt),
    "at_least": _row_compared(operator.ge),
    "equal": _row_compared(operator.eq),
    "unequal": _row_compared(operator.ne),
}
