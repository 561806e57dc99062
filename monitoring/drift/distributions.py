"""Tails of the chi-squared and the hypergeometric distribution, for arrays, in NumPy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_TAIL = 200
"""Terms of an exact tail, which falls faster than geometrically beyond the mean."""
_TINY = np.finfo(np.float64).tiny

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_lgamma = np.vectorize(math.lgamma, otypes=[np.float64])

_HALVES = _lgamma(np.arange(2_048) / 2 + 1)
"""Logarithms of (i / 2)!, for up to two thousand degrees of freedom."""


def chi_squared_survival(value: Floats, dof: NDArray[np.intp]) -> Floats:
    """P(chi-squared with `dof` degrees of freedom > value), by its finite sum; 1 for 0 degrees of freedom."""
    half = np.maximum(value, 0.0) / 2
    odd = dof % 2
    step = np.arange(max(int(dof.max(initial=0)) // 2, 1)) + odd[:, np.newaxis] / 2
    log_half = np.log(np.maximum(half, _TINY))[:, np.newaxis]
    log = step * log_half - half[:, np.newaxis] - _HALVES[(2 * step).astype(np.intp)]
    sums = np.where(step < dof[:, np.newaxis] / 2, np.exp(log), 0.0).sum(axis=1)
    # of an odd number the sum begins with the complementary error function
    start = np.where(odd == 1, _erfc(np.sqrt(half)), 0.0)
    return np.where(dof == 0, 1.0, np.minimum(start + sums, 1.0))


def normal_p_value(value: Floats) -> Floats:
    """P(a standard normal variable is as far from 0 as `value`)."""
    p_value: Floats = _erfc(np.abs(value) / math.sqrt(2))
    return p_value


def hypergeometric_p_value(reference: Counts, window: Counts) -> Floats:
    """Twice the smaller tail, at most 1, of the rows of one of two columns that are in the window.

    Both arguments have the shape (k, 2), and either column gives the same. Exact where less than some fifty rows of the
    rarer one are expected on the smaller side (R. Fisher, 1935).
    """
    n, m = reference.sum(axis=1), window.sum(axis=1)
    observed, total = window[:, 0], reference[:, 0] + window[:, 0]
    up = _tail(observed, total, n, m)
    down = _tail(total - observed, total, m, n)
    p_value: Floats = np.minimum(2 * np.minimum(up, down), 1.0)
    return p_value


def _tail(observed: Counts, total: Counts, n: Counts, m: Counts) -> Floats:
    """P(at least `observed` of `total` rows are among m of n + m), as far as `_TAIL` terms say."""
    k = observed[:, np.newaxis] + np.arange(_TAIL)
    numerator = np.maximum((total[:, np.newaxis] - k), 0) * np.maximum(m[:, np.newaxis] - k, 0).astype(np.float64)
    denominator = (k + 1) * np.maximum((n - total)[:, np.newaxis] + k + 1, 1)
    relative = np.cumprod(numerator / denominator, axis=1)
    first = np.exp(_log_choose(m, observed) + _log_choose(n, total - observed) - _log_choose(n + m, total))
    tail: Floats = np.minimum(first * (1 + relative.sum(axis=1)), 1.0)
    return tail


def _log_choose(total: Counts, chosen: Counts) -> Floats:
    inside = chosen <= total
    left = np.where(inside, total - chosen, 0)
    log = _lgamma(total + 1.0) - _lgamma(chosen + 1.0) - _lgamma(left + 1.0)
    return np.where(inside, log, -np.inf)
