"""Choosing the bins of a drift reference from the rows that a model was fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .reference import BinKind, Bins


def quantile_bins(values: NDArray[np.float64], count: int) -> Bins:
    """At most about `count` bins of equal size over the values, shape (n,); NaN is missing.

    Each edge is a value that occurs. A value that is several quantiles at once has a bin of its own, so that a flag
    that is nearly always set is seen to be unset.

    >>> quantile_bins(np.array([0.0, 1.0, 1.0, 1.0, np.nan]), 4)
    Bins(kind='numeric', edges=(0.0,), counts=(1, 3, 0, 1))
    """
    known = np.sort(values[~np.isnan(values)])
    return _counted("numeric", _edges(known, count) if len(known) else (), values)


def category_bins(values: NDArray[np.float64], codes: int) -> Bins:
    """One bin for each of the codes 0 to `codes` - 1; other values of shape (n,) are unseen, NaN is missing."""
    return _counted("category", tuple(map(float, range(codes))), values)


def _edges(ordered: NDArray[np.float64], count: int) -> tuple[float, ...]:
    """The inner edges; only the largest value itself where there is no other."""
    positions = np.ceil(np.arange(1, count) * len(ordered) / count).astype(np.intp) - 1
    quantiles, times = np.unique(ordered[positions], return_counts=True)
    before = np.searchsorted(ordered, quantiles[(times > 1) | (quantiles == ordered[-1])]) - 1
    edges = np.unique(np.concatenate([quantiles, ordered[before[before >= 0]]]))
    inner = edges[np.isfinite(edges) & (edges < ordered[-1])]
    return tuple(map(float, inner if len(inner) else ordered[-1:][np.isfinite(ordered[-1:])]))


def _counted(kind: BinKind, edges: tuple[float, ...], values: NDArray[np.float64]) -> Bins:
    return Bins(kind, edges, tuple(Bins.empty(kind, edges).count(values).tolist()))
