"""The drift reference: the distribution of the model's features and PDs on its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from features.schema import Calendar
from scoring.errors import ArtefactError
from scoring.trees import short_buffers

Counts = NDArray[np.int64]
BinKind = Literal["numeric", "category"]

# Without the bin for missing values a column that stops arriving would show no drift.
_EXTRA_BINS = 2
"""Every feature ends with a bin for unseen categories and one for missing values."""

_BLOCK = 1_024
"""Rows that are counted at once; their comparisons must fit into the processor's cache."""

_MANY = 128
"""Edges beyond which a feature is counted by itself: padding the others to its width would cost more."""


@dataclass(frozen=True)
class DriftReference:
    """The reference distribution of one model, against which later windows are compared.

    Attributes
    ----------
    features : the bins of each feature, in the order of the model matrix; counted over the training rows
    probability : the bins of the PD; counted over the out-of-fold PDs of the same rows
    importance : share of the model's gain per feature, adding up to 1
    rows : how many rows were counted
    sources : the raw columns that each feature reads
    calendars : the calendars that the values of a feature follow, for those that follow one
    roll_ups : the roll-ups of histories among the columns that are read; the declaration names them, so they are not
        written
    """

    features: Mapping[str, Bins]
    # Out of fold: a model's PDs on its own training rows are too extreme, and every later window would look shifted.
    probability: Bins
    importance: Mapping[str, float]
    rows: int
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calendars: Mapping[str, frozenset[Calendar]] = field(default_factory=dict)
    roll_ups: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if set(self.importance) != set(self.features):
            raise ArtefactError("a drift reference needs the importance of each of its features")
        if any(sum(bins.counts) != self.rows for bins in (*self.features.values(), self.probability)):
            raise ArtefactError("the bins of a drift reference must hold all of its rows")

    @cached_property
    def offsets(self) -> NDArray[np.intp]:
        """Where the bins of each feature begin in flat counts, and last where they end; shape (features + 1,)."""
        return np.cumsum([0, *(bins.size for bins in self.features.values())], dtype=np.intp)

    @cached_property
    def counts(self) -> Counts:
        """The reference counts of the features, in the shape that `bin` returns."""
        return np.array([count for bins in self.features.values() for count in bins.counts], dtype=np.int64)

    def by_feature(self, counts: Counts) -> dict[str, Counts]:
        """The part of each feature in flat counts, as `bin` returns them; the parts are views, not copies."""
        ends = pairwise(self.offsets.tolist())
        return {name: counts[start:end] for name, (start, end) in zip(self.features, ends, strict=True)}

    def reading(self, columns: frozenset[str]) -> NDArray[np.bool_]:
        """Which of the features read one of the columns, shape (features,)."""
        return np.array([not columns.isdisjoint(self.sources.get(name, (name,))) for name in self.features], np.bool_)

    @cached_property
    def of_histories(self) -> NDArray[np.bool_]:
        """Which of the features read a roll-up, shape (features,)."""
        return self.reading(self.roll_ups)

    def bin_without_histories(self, matrix: NDArray[np.float64]) -> Counts:
        """As `bin`, but features that read a roll-up count nothing."""
        return self.bin(matrix) * ~np.repeat(self.of_histories, np.diff(self.offsets))

    def bin(self, matrix: NDArray[np.float64]) -> Counts:
        """How many rows of a model matrix are in each bin, int64 of shape (bins of all features,).

        The bins of one feature follow those of another, see `offsets`. Counts are additive: those of two matrices add
        up to the counts of both together.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ValueError(f"the reference has {len(self.features)} features, not shape {matrix.shape}")
        counts = np.zeros(self.offsets[-1], dtype=np.int64)
        for start in range(0, len(matrix), _BLOCK):
            self._count(np.ascontiguousarray(matrix[start : start + _BLOCK].T), counts)
        return counts

    def _count(self, block: NDArray[np.float64], counts: Counts) -> None:
        """Add the counts of a block, shape (features, n), by the rule of `Bins.count` for many features at once.

        For some hundred rows this takes a quarter of the time of a loop over the features.
        """
        numeric, category = self._tables
        missing = np.count_nonzero(np.isnan(block), axis=1)
        known = block.shape[1] - missing
        with short_buffers():
            above = _count_true(block[numeric.features, np.newaxis] > numeric.edges[:, :, np.newaxis])
            of_code = _count_true(block[category.features, np.newaxis] == category.edges[:, :, np.newaxis])
        falling = np.pad(np.column_stack([known[numeric.features], above]), ((0, 0), (0, 1)))
        counts[numeric.bins] += (falling[:, :-1] - falling[:, 1:])[numeric.used]
        counts[category.bins] += of_code[category.used]
        ends = self.offsets[1:]
        counts[ends[category.features] - 2] += known[category.features] - of_code.sum(axis=1)
        for feature, bins in self._wide:
            counts[self.offsets[feature] : ends[feature]] += bins.count(block[feature])
            missing[feature] = 0
        counts[ends - 1] += missing

    @cached_property
    def _tables(self) -> tuple[_Table, _Table]:
        """The numeric features and the categories that have few edges.

        The padding counts nothing: no value lies above infinity, and none equals NaN.
        """
        return self._table("numeric", np.inf, 1), self._table("category", np.nan, 0)

    def _table(self, kind: BinKind, padding: float, more: int) -> _Table:
        """The features of one kind; there are `more` bins of known values than edges."""
        found = list(enumerate(self.features.values()))
        few = [(i, bins.edges) for i, bins in found if bins.kind == kind and len(bins.edges) <= _MANY]
        features = np.array([i for i, _ in few], dtype=np.intp)
        edges = _padded_rows([each for _, each in few], padding)
        column = np.arange(edges.shape[1] + more)
        used = column < np.diff(self.offsets)[features, np.newaxis] - _EXTRA_BINS
        return _Table(features, edges, used, (self.offsets[features, np.newaxis] + column)[used])

    @cached_property
    def _wide(self) -> list[tuple[int, Bins]]:
        """The positions and bins of the features with many edges: padding the others to these would cost too much."""
        return [(i, bins) for i, bins in enumerate(self.features.values()) if len(bins.edges) > _MANY]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return {
            "rows": self.rows,
            "probability": _written(self.probability),
            "features": [
                {
                    "name": name,
                    "importance": self.importance[name],
                    "sources": list(self.sources.get(name, ())),
                    "calendars": sorted(self.calendars.get(name, ())),
                    **_written(bins),
                }
                for name, bins in self.features.items()
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, roll_ups: frozenset[str] = frozenset()) -> Self:
        """The reference that `to_dict` wrote, of a model that reads these roll-ups."""
        features = values["features"]
        return cls(
            features={feature["name"]: _read(feature) for feature in features},
            probability=_read(values["probability"]),
            importance={feature["name"]: feature["importance"] for feature in features},
            rows=values["rows"],
            sources={one["name"]: tuple(one["sources"]) for one in features if one["sources"]},
            calendars={one["name"]: frozenset(map(Calendar, one["calendars"])) for one in features if one["calendars"]},
            roll_ups=roll_ups,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Edges of k features of one kind, in rows that are padded to the longest.

    Attributes
    ----------
    features : their positions, shape (k,)
    edges : shape (k, most edges)
    used : which bins of known values, in rows of one length too, are no padding
    bins : where the used ones are in flat counts
    """

    features: NDArray[np.intp]
    edges: NDArray[np.float64]
    used: NDArray[np.bool_]
    bins: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Counts of some applications; the sum of two windows is the window of all their applications.

    Attributes
    ----------
    features : int64 of shape (bins of all features,), as `DriftReference.bin` gives them
    probability : int64 of shape (bins of the PD,)
    unavailable : applications whose histories the feature store did not give, as it was down; only features that read
        no roll-up count them
    """

    features: Counts
    probability: Counts
    unavailable: int = 0

    @classmethod
    def of(
        cls,
        reference: DriftReference,
        matrix: NDArray[np.float64],
        probability: NDArray[np.float64],
        unavailable: NDArray[np.bool_] | None = None,
    ) -> Self:
        """The window of rows of the model matrix, shape (n, features), and their PDs, shape (n,).

        `unavailable` says whose history was not available, shape (n,); None where nobody's was.
        """
        if unavailable is None or not reference.roll_ups:
            return cls(reference.bin(matrix), reference.probability.count(probability))
        known = ~unavailable
        return cls(
            reference.bin(matrix[known]) + reference.bin_without_histories(matrix[unavailable]),
            reference.probability.count(probability[known]),
            int(np.count_nonzero(unavailable)),
        )

    @classmethod
    def reference(cls, reference: DriftReference) -> Self:
        """The window of the reference rows themselves."""
        return cls(reference.counts, np.array(reference.probability.counts, dtype=np.int64))

    @property
    def rows(self) -> int:
        """How many applications were counted."""
        return self.available + self.unavailable

    @property
    def available(self) -> int:
        """How many of them all features count, and the PD."""
        return int(self.probability.sum())

    def __add__(self, other: Window) -> Window:
        return Window(
            self.features + other.features,
            self.probability + other.probability,
            self.unavailable + other.unavailable,
        )

    def __sub__(self, other: Window) -> Window:
        return Window(
            self.features - other.features,
            self.probability - other.probability,
            self.unavailable - other.unavailable,
        )


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
        if len(self.edges) > _MANY:
            return np.bincount(self._positions(values), minlength=self.size)
        missing = int(np.count_nonzero(np.isnan(values)))
        if self.kind == "category":
            known = [int(np.count_nonzero(values == code)) for code in self.edges]
            return np.array([*known, len(values) - sum(known) - missing, missing])
        # One pass for each of a few edges is several times as fast as a binary search for each value.
        above = [len(values) - missing, *(int(np.count_nonzero(values > edge)) for edge in self.edges), 0]
        return np.array([*(low - high for low, high in pairwise(above)), 0, missing])

    def _positions(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """The bin of each value; there must be an edge."""
        edges = self._sorted_edges
        found = np.searchsorted(edges, values)
        if self.kind == "category":
            found[edges[np.minimum(found, len(edges) - 1)] != values] = self.size - 2
        found[np.isnan(values)] = self.size - 1
        return found

    @cached_property
    def _sorted_edges(self) -> NDArray[np.float64]:
        return np.array(self.edges)


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
    # Narrow integers keep the sums in the cache; a block has 1,024 rows at most, which 16 bits hold.
    counted: NDArray[np.uint16] = np.add.reduce(true.view(np.uint8), axis=2, dtype=np.uint16)
    return counted.astype(np.int64)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and value >= 0


def _written(bins: Bins) -> dict[str, Any]:
    return {"kind": bins.kind, "edges": list(bins.edges), "counts": list(bins.counts)}


def _read(values: Mapping[str, Any]) -> Bins:
    return Bins(values["kind"], tuple(values["edges"]), tuple(values["counts"]))
