"""The drift reference: the distribution of the model's features and PDs on its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from scoring.errors import ArtefactError

Counts = NDArray[np.int64]
BinKind = Literal["numeric", "category"]

# Without the bin for missing values a column that stops arriving would show no drift.
_EXTRA_BINS = 2
"""Every feature ends with a bin for unseen categories and one for missing values."""

_BLOCK = 256
"""Rows that are counted at once; their comparisons must fit into the processor's cache."""


@dataclass(frozen=True)
class DriftReference:
    """The reference distribution of one model, against which later windows are compared.

    Attributes
    ----------
    features : the bins of each feature, in the order of the model matrix; counted over the training rows
    probability : the bins of the PD; counted over the out-of-fold PDs of the same rows
    importance : share of the model's gain per feature, adding up to 1
    rows : how many rows were counted
    """

    features: Mapping[str, Bins]
    # Out of fold: a model's PDs on its own training rows are too extreme, and every later window would look shifted.
    probability: Bins
    importance: Mapping[str, float]
    rows: int

    def __post_init__(self) -> None:
        if set(self.importance) != set(self.features):
            raise ArtefactError("a drift reference needs the importance of each of its features")
        if any(sum(bins.counts) != self.rows for bins in (*self.features.values(), self.probability)):
            raise ArtefactError("the bins of a drift reference must hold all of its rows")

    @cached_property
    def width(self) -> int:
        """The largest number of bins that a feature has."""
        return max((bins.size for bins in self.features.values()), default=0)

    @cached_property
    def counts(self) -> Counts:
        """The reference counts of the features, in the shape that `bin` returns."""
        counts = np.zeros((len(self.features), self.width), dtype=np.int64)
        for row, bins in zip(counts, self.features.values(), strict=True):
            row[: bins.size] = bins.counts
        return counts

    def bin(self, matrix: NDArray[np.float64]) -> Counts:
        """How many rows of a model matrix are in each bin, int64 of shape (features, width).

        A feature's row holds its bins from the left, and 0 beyond them. Counts are additive: those of two matrices add
        up to the counts of both together.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ValueError(f"the reference has {len(self.features)} features, not shape {matrix.shape}")
        counts = np.zeros((len(self.features), self.width), dtype=np.int64)
        for start in range(0, len(matrix), _BLOCK):
            counts += self._binned(np.ascontiguousarray(matrix[start : start + _BLOCK].T))
        return counts

    def _binned(self, block: NDArray[np.float64]) -> Counts:
        """The counts of a block, shape (features, n), by the rule of `Bins.count` for all features at once.

        For some hundred rows this takes a quarter of the time of a loop over the features.
        """
        numeric, edges, category, codes = self._padded
        counts = np.zeros((len(self.features), self.width), dtype=np.int64)
        missing = np.count_nonzero(np.isnan(block), axis=1)
        known = block.shape[1] - missing
        above = _count_true(block[numeric, np.newaxis] > edges[:, :, np.newaxis])
        falling = np.pad(np.column_stack([known[numeric], above]), ((0, 0), (0, 1)))
        counts[numeric, : falling.shape[1] - 1] = falling[:, :-1] - falling[:, 1:]
        of_code = _count_true(block[category, np.newaxis] == codes[:, :, np.newaxis])
        counts[category, : codes.shape[1]] = of_code
        sizes = np.array([bins.size for bins in self.features.values()])
        counts[category, sizes[category] - _EXTRA_BINS] = known[category] - of_code.sum(axis=1)
        counts[np.arange(len(sizes)), sizes - 1] = missing
        return counts

    @cached_property
    def _padded(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
        """Positions and edges of the numeric features, then of the categories.

        All rows have one width. The padding counts nothing: no value lies above infinity, and none equals NaN.
        """
        found = list(self.features.values())
        numeric = [i for i, bins in enumerate(found) if bins.kind == "numeric"]
        category = [i for i, bins in enumerate(found) if bins.kind == "category"]
        return (
            np.array(numeric, dtype=np.intp),
            _padded_rows([found[i].edges for i in numeric], np.inf),
            np.array(category, dtype=np.intp),
            _padded_rows([found[i].edges for i in category], np.nan),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return {
            "rows": self.rows,
            "probability": _written(self.probability),
            "features": [
                {"name": name, "importance": self.importance[name], **_written(bins)}
                for name, bins in self.features.items()
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reference that `to_dict` wrote."""
        features = values["features"]
        return cls(
            features={feature["name"]: _read(feature) for feature in features},
            probability=_read(values["probability"]),
            importance={feature["name"]: feature["importance"] for feature in features},
            rows=values["rows"],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Counts of some applications; the sum of two windows is the window of all their applications.

    Attributes
    ----------
    features : int64 of shape (features, width), as `DriftReference.bin` gives them
    probability : int64 of shape (bins of the PD,)
    """

    features: Counts
    probability: Counts

    @classmethod
    def of(cls, reference: DriftReference, matrix: NDArray[np.float64], probability: NDArray[np.float64]) -> Self:
        """The window of rows of the model matrix, shape (n, features), and their PDs, shape (n,)."""
        return cls(reference.bin(matrix), reference.probability.count(probability))

    @classmethod
    def reference(cls, reference: DriftReference) -> Self:
        """The window of the reference rows themselves."""
        return cls(reference.counts, np.array(reference.probability.counts, dtype=np.int64))

    @property
    def rows(self) -> int:
        """How many applications were counted."""
        return int(self.probability.sum())

    def __add__(self, other: Window) -> Window:
        return Window(self.features + other.features, self.probability + other.probability)


@dataclass(frozen=True)
class Bins:
    """The bins of one feature or of the PD, with the reference rows in each; ArtefactError if they are illegal.

    A numeric feature with the rising inner `edges` e has the bins (-inf, e[0]], (e[0], e[1]], ..., (e[-1], inf). A
    category has one bin for each known code; its `edges` are the codes. Two more bins follow: `unseen` holds any other
    code, and is empty for a numeric feature; `missing` holds NaN.
    """

    kind: BinKind
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("numeric", "category"):
            raise ArtefactError("bins are numeric or of a category")
        if not np.isfinite(self.edges).all() or any(a >= b for a, b in pairwise(self.edges)):
            raise ArtefactError("the edges of bins must be finite and rise")
        if len(self.counts) != _size(self.kind, self.edges) or not all(_is_count(count) for count in self.counts):
            raise ArtefactError("bins need one whole, non-negative count each")

    @classmethod
    def empty(cls, kind: BinKind, edges: tuple[float, ...]) -> Self:
        """Bins that hold nothing."""
        return cls(kind, edges, (0,) * _size(kind, edges))

    @property
    def size(self) -> int:
        """How many bins there are, the last two included."""
        return len(self.counts)

    def count(self, values: NDArray[np.float64]) -> Counts:
        """How many of the values, shape (n,), are in each bin; int64 of shape (size,).

        >>> Bins.empty("numeric", (1.0, 5.0)).count(np.array([1.0, 1.5, 6.0, np.inf, np.nan])).tolist()
        [1, 1, 2, 0, 1]
        >>> Bins.empty("category", (0.0, 1.0)).count(np.array([0.0, 2.0, np.nan])).tolist()
        [1, 0, 1, 1]
        """
        missing = int(np.count_nonzero(np.isnan(values)))
        if self.kind == "category":
            known = [int(np.count_nonzero(values == code)) for code in self.edges]
            return np.array([*known, len(values) - sum(known) - missing, missing])
        # One pass for each edge is several times as fast as a binary search for each value.
        above = [len(values) - missing, *(int(np.count_nonzero(values > edge)) for edge in self.edges), 0]
        return np.array([*(low - high for low, high in pairwise(above)), 0, missing])


def quantile_bins(values: NDArray[np.float64], count: int) -> Bins:
    """About `count` bins of equal size at most, over values of shape (n,); NaN is missing.

    Each edge is a value that occurs. A value that is several quantiles at once has a bin of its own: a flag that is
    nearly always set keeps a bin for its rare 0.

    >>> quantile_bins(np.array([0.0, 1.0, 1.0, 1.0, np.nan]), 4)
    Bins(kind='numeric', edges=(0.0,), counts=(1, 3, 0, 1))
    """
    known = np.sort(values[~np.isnan(values)])
    return _counted("numeric", _edges(known, count) if len(known) else (), values)


def category_bins(values: NDArray[np.float64], codes: int) -> Bins:
    """One bin for each of the codes 0 to `codes` - 1; other values of shape (n,) are unseen, NaN is missing."""
    return _counted("category", tuple(map(float, range(codes))), values)


def _edges(ordered: NDArray[np.float64], count: int) -> tuple[float, ...]:
    """The inner edges; the largest value alone if there is no other edge."""
    positions = np.ceil(np.arange(1, count) * len(ordered) / count).astype(np.intp) - 1
    quantiles, times = np.unique(ordered[positions], return_counts=True)
    before = np.searchsorted(ordered, quantiles[(times > 1) | (quantiles == ordered[-1])]) - 1
    edges = np.unique(np.concatenate([quantiles, ordered[before[before >= 0]]]))
    inner = edges[np.isfinite(edges) & (edges < ordered[-1])]
    return tuple(map(float, inner if len(inner) else ordered[-1:][np.isfinite(ordered[-1:])]))


def _counted(kind: BinKind, edges: tuple[float, ...], values: NDArray[np.float64]) -> Bins:
    return Bins(kind, edges, tuple(Bins.empty(kind, edges).count(values).tolist()))


def _size(kind: BinKind, edges: tuple[float, ...]) -> int:
    return len(edges) + (kind == "numeric") + _EXTRA_BINS


def _padded_rows(edges: Sequence[tuple[float, ...]], beyond: float) -> NDArray[np.float64]:
    """The edges of several features, one row for each, padded to the longest with `beyond`."""
    filled = np.full((len(edges), max(map(len, edges), default=0)), beyond)
    for row, each in zip(filled, edges, strict=True):
        row[: len(each)] = each
    return filled


def _count_true(true: NDArray[np.bool_]) -> Counts:
    """The number of true values along the last axis, which is no longer than a block."""
    # Narrow integers keep the sums in the cache; a block has 256 rows at most, which 16 bits hold.
    counted: NDArray[np.uint16] = np.add.reduce(true.view(np.uint8), axis=2, dtype=np.uint16)
    return counted.astype(np.int64)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and value >= 0


def _written(bins: Bins) -> dict[str, Any]:
    return {"kind": bins.kind, "edges": list(bins.edges), "counts": list(bins.counts)}


def _read(values: Mapping[str, Any]) -> Bins:
    return Bins(values["kind"], tuple(values["edges"]), tuple(values["counts"]))
