"""Statistics of drift: indices and tests that compare two sets of counts, for all features at once.

Throughout, `reference` and `window` have the shape (features, bins), and n and m are their rows.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


_ENOUGH = 5.0
"""Expected rows that a bin needs for the chi-squared approximation (W. Cochran, Biometrics 10, 1954)."""


def psi(reference: Counts, window: Counts) -> Floats:
    """Population stability index, sum of (q - p) ln(q / p) over the bins' shares p and q; called CSI for a feature.

    An empty bin counts half a row where the other side has some. Source: E. Lewis, An Introduction to Credit Scoring,
    1994.

    >>> psi(np.array([[50, 50], [50, 50]]), np.array([[5, 5], [8, 2]])).round(4).tolist()
    [0.0, 0.4159]
    """
    p, q = _floored(reference, window), _floored(window, reference)
    index: Floats = ((q - p) * np.log(q / p)).sum(axis=1)
    return index


def psi_bias(reference: Counts, window: Counts) -> Floats:
    """The mean PSI of two samples of one population: (bins - 1)(1/n + 1/m).

    A bin with less than one expected row in the window counts for that part of a bin. Source: B. Yurdakul and
    J. Naranjo, Journal of Risk Model Validation 14, 2020.
    """
    # PSI is not free of the sample's size: with ten bins and 100 rows its mean without any drift is 0.09, which is next
    # to the usual bound of 0.1.
    _, m = _rows(reference, window)
    filled = np.minimum(_pooled(reference, window) * m[:, np.newaxis], 1.0).sum(axis=1)
    bias: Floats = np.maximum(filled - 1, 0) * _spread(reference, window)
    return bias


def psi_quantile(reference: Counts, window: Counts, confidence: float) -> Floats:
    """The PSI that two samples of one population exceed with probability 1 - `confidence`.

    The quantile of chi-squared with bins - 1 degrees of freedom, by E. Wilson and M. Hilferty (PNAS 17, 1931), times
    1/n + 1/m; source as of `psi_bias`.
    """
    dof = np.maximum(((reference + window) > 0).sum(axis=1) - 1, 0)
    ninth = 2 / (9 * np.maximum(dof, 1))
    cube = (1 - ninth + NormalDist().inv_cdf(confidence) * np.sqrt(ninth)) ** 3
    quantile: Floats = dof * cube * _spread(reference, window)
    return quantile


def kolmogorov_smirnov(reference: Counts, window: Counts) -> Floats:
    """The largest difference between the two cumulative shares at the bounds of ordered bins; 0 for an empty side.

    Source: N. Smirnov, Annals of Mathematical Statistics 19, 1948. On bins it is a lower bound of that on the values.
    """
    p, q = (np.cumsum(counts, axis=1) / _at_least_one(counts) for counts in (reference, window))
    filled = (reference.sum(axis=1) > 0) & (window.sum(axis=1) > 0)
    return np.where(filled, np.abs(p - q).max(axis=1), 0.0)


def jensen_shannon(reference: Counts, window: Counts) -> Floats:
    """Jensen-Shannon distance in [0, 1]: the root of the divergence to base 2.

    Source: J. Lin, IEEE Transactions on Information Theory 37, 1991.
    """
    p, q = (counts / _at_least_one(counts) for counts in (reference, window))
    middle = (p + q) / 2
    return np.sqrt(np.maximum((_entropy_to(p, middle) + _entropy_to(q, middle)) / 2, 0.0))


def share(counts: Counts, column: NDArray[np.intp]) -> Floats:
    """The share of one bin of each feature; 0 for no rows."""
    shares: Floats = counts[np.arange(len(counts)), column] / _at_least_one(counts)[:, 0]
    return shares


def chi_squared_test(reference: Counts, window: Counts) -> Floats:
    """p-value of Pearson's test that both sides are samples of one population.

    Bins with fewer than five expected rows are added together, and left out if that is too few still.
    Source: K. Pearson, Philosophical Magazine 50, 1900.
    """
    n, m = _rows(reference, window)
    smaller = (np.minimum(n, m) / np.maximum(n + m, 1))[:, np.newaxis]
    rare = (reference + window) * smaller < _ENOUGH
    r, c = _rest_together(reference, rare), _rest_together(window, rare)
    kept = (r + c) * smaller >= _ENOUGH
    r, c = r * kept, c * kept
    # the form for two histograms of different sizes (W. Press and others, Numerical Recipes, 14.3)
    ratio = np.sqrt(_at_least_one(r) / _at_least_one(c))
    value = ((r / ratio - c * ratio) ** 2 / np.maximum(r + c, 1)).sum(axis=1)
    return chi_squared_survival(value, np.maximum(kept.sum(axis=1) - 1, 0))


def rank_sum_test(reference: Counts, window: Counts) -> Floats:
    """p-value of the test that neither side's values tend to be larger, for ordered bins, ties counted half.

    It sees a distribution that moves as a whole before the other tests do. Sources: F. Wilcoxon, Biometrics
    Bulletin 1, 1945; H. Mann and D. Whitney, Annals of Mathematical Statistics 18, 1947, with the variance for ties.
    """
    n, m = _rows(reference, window)
    both, total = reference + window, n + m
    rank = np.cumsum(both, axis=1) - (both - 1) / 2
    surplus = (window * rank).sum(axis=1) - m * (total + 1) / 2
    # in floating point, since the cube of two million rows does not fit into 64 bits
    ties = (both.astype(np.float64) ** 3 - both).sum(axis=1) / np.maximum(total * (total - 1.0), 1)
    variance = n * (m / 12) * (total + 1 - ties)
    return normal_p_value(surplus / np.sqrt(np.maximum(variance, 1.0)))


def share_test(reference: Counts, window: Counts, column: NDArray[np.intp]) -> Floats:
    """p-value of the test that one bin has the same share on both sides.

    Two-sided: twice the smaller tail of the hypergeometric distribution of the bin's rows in the window, given those of
    both sides together (R. Fisher, 1935); Pearson's test where every cell is expected to hold five rows.
    """
    r, c = (_one_against_rest(counts, column) for counts in (reference, window))
    n, m = _rows(r, c)
    rarer = (r + c).min(axis=1) * np.minimum(n, m) / np.maximum(n + m, 1)
    p_value = np.where(rarer > 0, chi_squared_test(r, c), 1.0)
    # missing values and unknown categories are rare as a rule, where Pearson's test is far off
    few = (rarer > 0) & (rarer < _ENOUGH)
    p_value[few] = hypergeometric_p_value(r[few], c[few])
    return p_value


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values: the tests with at most q have an expected share of false rejections of at most q.

    Without any drift every rejection is false, so q is the rate of false alarms of the whole family, for independent
    tests and those with positive dependence. Source: Y. Benjamini and Y. Hochberg, JRSS B 57, 1995;
    Y. Benjamini and D. Yekutieli, Annals of Statistics 29, 2001.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.04, 0.04]
    """
    # Not Bonferroni's correction: over a hundred features it would ask for p-values a hundred times as small and hide
    # drift of moderate size, while a false feature beside many true ones costs a reader little.
    order = np.argsort(p_values)[::-1]
    rank = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum.accumulate(np.minimum(p_values[order] * len(p_values) / rank, 1.0))
    return adjusted


def _rest_together(counts: Counts, rare: NDArray[np.bool_]) -> Counts:
    """The counts with all rare bins added together in one more bin at the end."""
    rest = (counts * rare).sum(axis=1, keepdims=True)
    return np.concatenate([counts * ~rare, rest], axis=1)


def _one_against_rest(counts: Counts, column: NDArray[np.intp]) -> Counts:
    one = counts[np.arange(len(counts)), column]
    return np.stack([one, counts.sum(axis=1) - one], axis=1)


def _rows(reference: Counts, window: Counts) -> tuple[Counts, Counts]:
    return reference.sum(axis=1), window.sum(axis=1)


def _spread(reference: Counts, window: Counts) -> Floats:
    """1/n + 1/m."""
    n, m = _rows(reference, window)
    spread: Floats = 1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)
    return spread


def _pooled(reference: Counts, window: Counts) -> Floats:
    both = reference + window
    shares: Floats = both / _at_least_one(both)
    return shares


def _at_least_one(counts: Counts) -> Counts:
    """Rows of each feature, at least 1, so that shares of no rows are 0; shape (features, 1)."""
    rows: Counts = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return rows


def _floored(counts: Counts, other: Counts) -> Floats:
    """Shares; an empty bin has half a row if the other side has some, and 1 on both sides if neither has."""
    # Half a row and not a tiny constant, as some libraries fill in: its logarithm would let one sparse bin outweigh all
    # others.
    filled = np.where(counts > 0, counts, 0.5) / _at_least_one(counts)
    return np.where((counts > 0) | (other > 0), filled, 1.0)


def _entropy_to(p: Floats, q: Floats) -> Floats:
    """Relative entropy in bits."""
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)
    bits: Floats = (p * np.log2(ratio)).sum(axis=1)
    return bits


# The distributions are in NumPy, since every worker judges windows: importing scipy.stats 1.17 takes 0.5 s of processor
# time and 41 MB of private memory, for two tails. Tests hold them against scipy's.

_TAIL = 200
"""Terms of an exact tail, which falls faster than geometrically beyond the mean."""
_TINY = np.finfo(np.float64).tiny

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_lgamma = np.vectorize(math.lgamma, otypes=[np.float64])


def chi_squared_survival(value: Floats, dof: NDArray[np.intp]) -> Floats:
    """P(chi-squared with `dof` degrees of freedom > value), by its finite sum; 1 for 0 degrees of freedom."""
    half = np.maximum(value, 0.0) / 2
    odd = dof % 2
    step = np.arange(max(int(dof.max(initial=0)) // 2, 1)) + odd[:, np.newaxis] / 2
    log_half = np.log(np.maximum(half, _TINY))[:, np.newaxis]
    factorials = _lgamma(np.arange(2 * step.shape[1]) / 2 + 1)  # logarithms of (i / 2)!
    log = step * log_half - half[:, np.newaxis] - factorials[(2 * step).astype(np.intp)]
    sums = np.where(step < dof[:, np.newaxis] / 2, np.exp(log), 0.0).sum(axis=1)
    # for an odd number of degrees of freedom the sum begins with the complementary error function
    start = np.where(odd == 1, _erfc(np.sqrt(half)), 0.0)
    return np.where(dof == 0, 1.0, np.minimum(start + sums, 1.0))


def normal_p_value(value: Floats) -> Floats:
    """P(a standard normal variable is at least as far from 0 as `value`)."""
    p_value: Floats = _erfc(np.abs(value) / math.sqrt(2))
    return p_value


def hypergeometric_p_value(reference: Counts, window: Counts) -> Floats:
    """Two-sided p-value of Fisher's exact test: twice the smaller tail, at most 1.

    Both arguments have the shape (k, 2), and either column gives the same. Exact where fewer than about fifty rows of
    the rarer one are expected on the smaller side (R. Fisher, 1935).
    """
    n, m = reference.sum(axis=1), window.sum(axis=1)
    observed, total = window[:, 0], reference[:, 0] + window[:, 0]
    up = _tail(observed, total, n, m)
    down = _tail(total - observed, total, m, n)
    p_value: Floats = np.minimum(2 * np.minimum(up, down), 1.0)
    return p_value


def _tail(observed: Counts, total: Counts, n: Counts, m: Counts) -> Floats:
    """P(at least `observed` of `total` rows are among m of n + m), from `_TAIL` terms."""
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
