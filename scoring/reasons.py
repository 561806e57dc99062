"""Reasons: what each feature adds to the margin of an application, summed by the portfolio's groups and ranked.

Contributions are Shapley values of the margin. The interventional ones compare with a reference group: v(S) is the mean
margin over the group, with the features in S from the application and all others from the group's member. They add up
to the margin less the group's mean margin. The path-dependent ones are LightGBM's own, of `pred_contrib`.

Sources: S. Lundberg and S.-I. Lee, 2017; for a chosen group, arXiv:2204.12365 and the methods that the commentary to 12
CFR 1002.9(b)(2) names; for tables of outcome patterns, arXiv:2605.14578.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache, cached_property
from hashlib import sha256
from itertools import accumulate, pairwise
from json import dumps
from math import factorial
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.portfolio import Portfolio
from features.reasons import Reason
from scoring.errors import ArtefactError
from scoring.model import Model
from scoring.trees import PATTERNS, LeafPaths, Tree, TreeTables, places_of_children

Matrix = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_REASONS = 4
"""More do not help an applicant (commentary to 12 CFR 1002.9(b)(2), paragraph 1)."""
_NOISE = 1e-9
"""Log-odds below which a contribution is rounding, and no reason."""
_TREES_AT_ONCE = 64
_NO_FEATURE = -2
_MOST_LEAVES = TreeTables.most_leaves
_ROWS_AT_ONCE = 16
_LANES, _UNSPLIT = 8, 128
"""Sums that NumPy's pairwise summation makes side by side, and how many summands it does not split."""
_PROBED = 8
# Measured: for fewer rows a call of NumPy for each feature of each tree, or for each place, costs more than its work.
_BLOCK_FROM, _BLOCK_ROWS = 192, 2_048
_RANKED_FROM = 16


class ReasonMethod(StrEnum):
    """How contributions are computed."""

    INTERVENTIONAL = "interventional"
    PATH_DEPENDENT = "path_dependent"


class ReferenceGroup(StrEnum):
    """Whom the interventional method compares with: the two groups that the commentary to 12 CFR 1002.9 names."""

    CUT_OFF = "cut_off"
    """Applicants at or just above the cut-off: those of the highest PD that are not predicted to default."""
    ALL = "all"


@dataclass(frozen=True)
class ReasonReference:
    """What the contributions of a model are measured against.

    Attributes
    ----------
    method : of the contributions
    group : the reference group; None for the path-dependent method, which has none
    rows : how many applicants the group has
    outcomes : of each tree, pairs of an outcome pattern and its number of applicants; nobody can be told apart
    """

    method: ReasonMethod
    group: ReferenceGroup | None = None
    rows: int = 0
    outcomes: tuple[tuple[tuple[int, int], ...], ...] = ()

    def __post_init__(self) -> None:
        if (self.method is ReasonMethod.INTERVENTIONAL) != bool(self.group and self.rows and self.outcomes):
            raise ArtefactError("the interventional method, and no other, has a reference group")
        if any(sum(count for _, count in tree) != self.rows for tree in self.outcomes):
            raise ArtefactError("each tree must have an outcome of every applicant in the reference group")

    @classmethod
    def interventional(cls, model: Model, group: ReferenceGroup, matrix: Matrix) -> Self:
        """The reference of a model and the group's rows of the model matrix; ArtefactError for larger trees."""
        if model.tables is None:
            raise ArtefactError("trees of more than eight leaves have no interventional reasons")
        patterns = model.patterns(matrix)
        counts = [tuple(sorted(Counter(tree.tolist()).items())) for tree in patterns.T]
        return cls(ReasonMethod.INTERVENTIONAL, group, len(matrix), tuple(counts))

    @property
    def version(self) -> str:
        """The method and, in short, the digest of the group: what is recorded beside every reason."""
        return f"{self.method}:{sha256(dumps(self.to_dict()).encode()).hexdigest()[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return {"method": self.method, "group": self.group, "rows": self.rows, "outcomes": self._texts}

    @cached_property
    def _texts(self) -> list[str]:
        """The outcomes of each tree as text: tens of thousands are written at each start."""
        return [" ".join(map("%d:%d".__mod__, tree)) for tree in self.outcomes]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reference that `to_dict` wrote; ValueError or KeyError for anything else."""
        method, group = ReasonMethod(values["method"]), values["group"]
        outcomes = _outcomes(values["outcomes"])
        return cls(method, None if group is None else ReferenceGroup(group), values["rows"], outcomes)


def _outcomes(trees: Sequence[str]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The pairs in each text, all read at once: tens of thousands are read at each start."""
    numbers = list(map(int, " ".join(trees).replace(":", " ").split()))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    ends = accumulate((tree.count(":") for tree in trees), initial=0)
    return tuple(tuple(pairs[start:end]) for start, end in pairwise(ends))


class Contributions(Protocol):
    """What each feature adds to the margin. With `base`, the expected margin, it adds up to the margin.

    `features` are those that may add something, by their places in the model matrix.
    """

    base: float
    features: Places

    def of(self, matrix: Matrix) -> Matrix:
        """The contributions in log-odds of the `features` in n rows of a model matrix, shape (features, n)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an application has its margin.

    Attributes
    ----------
    base : mean margin of the reference group
    contributions : what stands for each reason added to the margin, in log-odds, the largest first; None stands for
        the features that rest on a protected attribute. With the base they add up to the margin.
    reasons : those that raised the risk most, at most four
    version : of the method and its reference group
    """

    version: str
    base: float
    contributions: tuple[tuple[Reason | None, float], ...]
    reasons: tuple[Reason, ...]


class Explainer:
    """Gives the reasons of a model's margins.

    Parameters
    ----------
    names : the features, in the order of the model matrix
    """

    def __init__(self, model: Model, names: Sequence[str], portfolio: Portfolio, reference: ReasonReference) -> None:
        declared = portfolio.reasons
        if declared is None:
            raise ArtefactError("the portfolio declares no reasons")
        self.contributions = _contributions(model, reference)
        self.version = reference.version
        # Equal contributions keep the order of the declaration. The last place is of features that rest on a protected
        # attribute: they belong to no reason, and it is not ranked.
        self._reasons = tuple(declared)
        place = {reason: i for i, reason in enumerate(self._reasons)}
        known, missing = [], []
        for name in names:
            group, tells_missing = declared.of_feature.get(name), portfolio.features[name].never_missing
            known.append(place[group.missing if tells_missing else group.reason] if group else len(place))
            missing.append(place[group.missing] if group else len(place))
        read = self.contributions.features
        self._known, self._missing = (np.array(one, dtype=np.intp)[read, np.newaxis] for one in (known, missing))

    def reasons(self, matrix: Matrix) -> list[tuple[Reason, ...]]:
        """The reasons of each row of a model matrix: at most four, that which raised the risk most first."""
        grouped = self._grouped(matrix)
        if len(matrix) < _RANKED_FROM:
            return [self._largest(one) for one in grouped.tolist()]
        told = cache(self._told)  # many applicants share their reasons
        return [told(*places) for places in _ranked(grouped[:, :-1]).tolist()]

    def explain(self, matrix: Matrix) -> list[Explanation]:
        """The explanation of each row of a model matrix."""
        return [
            Explanation(self.version, self.contributions.base, self._listed(grouped), self._largest(grouped))
            for grouped in self._grouped(matrix).tolist()
        ]

    def _grouped(self, matrix: Matrix) -> Matrix:
        """What the features of each reason add to the margin, and last the protected ones, shape (n, reasons + 1)."""
        count = len(self._reasons) + 1
        absent = np.isnan(matrix.T.take(self.contributions.features, axis=0))
        places = np.where(absent, self._missing, self._known) + np.arange(len(matrix)) * count
        weights = self.contributions.of(matrix).ravel()
        grouped = np.bincount(places.ravel(), weights=weights, minlength=len(matrix) * count)
        # Without a row the sums are whole numbers.
        return grouped.reshape(len(matrix), count).astype(np.float64, copy=False)

    def _told(self, *places: int) -> tuple[Reason, ...]:
        return tuple(self._reasons[place] for place in places if place < len(self._reasons))

    def _largest(self, grouped: Sequence[float]) -> tuple[Reason, ...]:
        raised = sorted((-added, place) for place, added in enumerate(grouped[:-1]) if added > _NOISE)
        return tuple(self._reasons[place] for _, place in raised[:MOST_REASONS])

    def _listed(self, grouped: Sequence[float]) -> tuple[tuple[Reason | None, float], ...]:
        added = [one for one in zip((*self._reasons, None), grouped, strict=True) if one[1]]
        return tuple(sorted(added, key=lambda one: -one[1]))


def _ranked(added: Matrix) -> NDArray[np.intp]:
    """The places of the largest contributions that raised the risk, shape (n, 4); their number where there are fewer.

    >>> _ranked(np.array([[0.1, -0.2, 0.3, 0.1]])).tolist()
    [[2, 0, 3, 4]]
    """
    left, each = added.copy(), np.arange(len(added))
    found = np.full((len(added), MOST_REASONS), added.shape[1])
    for rank in range(MOST_REASONS):
        best = left.argmax(axis=1)  # the first of equal ones
        raised = left[each, best] > _NOISE
        found[raised, rank] = best[raised]
        left[each, best] = -np.inf
    return found


def _contributions(model: Model, reference: ReasonReference) -> Contributions:
    if model.tables is None:
        if reference.method is ReasonMethod.INTERVENTIONAL:
            raise ArtefactError("trees of more than eight leaves have no interventional reasons")
        return _NativeContributions(model)
    return TableContributions(model.tables.trees, model.patterns, reference)


class _NativeContributions:
    """LightGBM's own contributions: exact for trees of any size, and some ten times slower than the tables."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.features = np.arange(model.features)
        # The expected margin is the same for every row.
        self.base = float(model.contributions(np.zeros((1, model.features)))[0, -1])

    def of(self, matrix: Matrix) -> Matrix:
        return self._model.contributions(matrix)[:, :-1].T


FindPatterns = Callable[[Matrix], NDArray[np.uint8]]
"""Finds the outcome patterns of rows in each tree, shape (n, trees)."""


class TableContributions:
    """The contributions by tables: one for each feature of each tree, with a value for each outcome pattern."""

    def __init__(self, trees: Sequence[Tree], patterns: FindPatterns, reference: ReasonReference) -> None:
        self._patterns = patterns
        if reference.outcomes and len(reference.outcomes) != len(trees):
            raise ArtefactError("the reference group has outcomes of other trees")
        shares = _shares(reference) if reference.outcomes else None
        read = [tuple(sorted(set(tree.feature))) for tree in trees]
        # The tables of one feature lie together, in the order of the trees, so that one call adds their values up.
        pairs = sorted((feature, tree, column) for tree, one in enumerate(read) for column, feature in enumerate(one))
        self._table = np.empty((len(pairs), PATTERNS))
        self.base = 0.0
        of_pair = np.array(pairs, dtype=np.intp).reshape(-1, 3)
        self._tree, self._offsets = of_pair[:, 1], np.arange(len(pairs)) * PATTERNS
        self.features, self._starts = np.unique(of_pair[:, 0], return_index=True)
        leaves = _leaves(trees, read)
        for start in range(0, len(trees), _TREES_AT_ONCE):  # the arrays on the way stay small
            several = slice(start, min(start + _TREES_AT_ONCE, len(trees)))
            most = max(map(len, read[several]))
            added, base = _added(leaves, several, most, None if shares is None else shares[several])
            chosen = (self._tree >= start) & (self._tree < start + len(added))
            self._table[chosen] = added[self._tree[chosen] - start, of_pair[chosen, 2]]
            self.base += base

    def of(self, matrix: Matrix) -> Matrix:
        """The contributions in log-odds, shape (features, n); a row's do not depend on the others."""
        if not len(self._table):
            return np.empty((0, len(matrix)))
        patterns = self._patterns(matrix)
        if len(matrix) < _BLOCK_FROM or not self._adds_as_numpy:
            return self._by_row(patterns).T
        blocks = -(-len(matrix) // _BLOCK_ROWS)  # of one size: a block of few rows would cost as much as a large one
        parts = [self._by_feature(part) for part in np.array_split(patterns.T, blocks, axis=1)]
        return parts[0] if blocks == 1 else np.concatenate(parts, axis=1)

    def _by_row(self, patterns: NDArray[np.uint8]) -> Matrix:
        """The contributions by row, shape (n, features)."""
        found, table = np.empty((len(patterns), len(self.features))), self._table.ravel()
        patterns = np.ascontiguousarray(patterns)
        for start in range(0, len(patterns), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            places = patterns[rows].take(self._tree, axis=1) + self._offsets
            np.add.reduceat(table.take(places), self._starts, axis=1, out=found[rows])
        return found

    def _by_feature(self, patterns: NDArray[np.uint8]) -> Matrix:
        """The same bits by feature, shape (features, n), from patterns (trees, n): its tables stay in the cache."""
        found, patterns = np.empty((len(self.features), patterns.shape[1])), np.ascontiguousarray(patterns)
        ends = [*self._starts[1:].tolist(), len(self._tree)]
        for total, start, end in zip(found, self._starts.tolist(), ends, strict=True):
            tables = slice(start, end)
            values = self._table.take(patterns.take(self._tree[tables], axis=0) + self._offsets[tables, None])
            total[:] = values[0]
            if len(values) > 1:
                np.add(total, _pairwise(values[1:]), out=total)
        return found

    @cached_property
    def _adds_as_numpy(self) -> bool:
        """Whether both ways have the same bits, as they have unless NumPy changes the order of its sums."""
        trees = int(self._tree.max()) + 1
        probe = np.random.default_rng(0).integers(PATTERNS, size=(_PROBED, trees), dtype=np.uint8)
        return np.array_equal(self._by_feature(probe.T).T, self._by_row(probe))


def _pairwise(values: Matrix) -> Matrix:
    """The sums of the columns, shape (n,), in the order of NumPy's pairwise summation.

    Source: `pairwise_sum` in loops_utils.h.src of NumPy.
    """
    count = len(values)
    if count > _UNSPLIT:
        half = count // 2 // _LANES * _LANES
        return _pairwise(values[:half]) + _pairwise(values[half:])
    if count < _LANES:
        return np.asarray(np.add.reduce(values, axis=0))
    whole = count // _LANES * _LANES
    lanes = np.add.reduce(values[:whole].reshape(-1, _LANES, values.shape[1]), axis=0)
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    for one in values[whole:]:
        total += one
    return np.asarray(total)


@dataclass(frozen=True, slots=True, eq=False)
class _Leaves:
    """Leaves with so many features on their paths. A row reaches one if every feature agrees with the path.

    Attributes
    ----------
    tree, number, value : shape (n,)
    columns : the places of these features among the tree's, in the order of the path, shape (n, features)
    bits, wanted : of outcome patterns, for each of these features, shape (n, features)
    share : the part of the training rows that agrees with the path at the splits on each feature, same shape
    """

    tree: Places
    number: Places
    value: Matrix
    columns: Places
    bits: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    share: Matrix

    def of(self, trees: slice) -> _Leaves:
        """Those of several trees, which are numbered from 0 on."""
        first, end = np.searchsorted(self.tree, [trees.start, trees.stop]).tolist()
        some = _Leaves(*(getattr(self, one.name)[first:end] for one in fields(self)))
        return replace(some, tree=some.tree - trees.start)

    def __len__(self) -> int:
        return len(self.tree)


def _leaves(trees: Sequence[Tree], read: Sequence[tuple[int, ...]]) -> list[_Leaves]:
    """The leaves of trees that have 0, 1, 2, ... features on their paths, in the order of the trees."""
    paths = LeafPaths(trees)
    most = max(map(len, read), default=0)
    features = np.array([(*one, *(_NO_FEATURE,) * (most - len(one))) for one in read]).reshape(len(trees), most)
    of_feature = np.zeros((len(trees), most), dtype=np.uint8)
    for split, feature in enumerate(paths.feature.T):
        of_feature |= (feature[:, None] == features).astype(np.uint8) << split
    bits = paths.bits[:, :, None] & of_feature[:, None]
    share = np.ones(bits.shape)
    for split, (left, right, here) in enumerate(_passed(trees, paths)):
        passed = np.where(paths.wanted >> split & 1, right[:, None], left[:, None])[:, :, None]
        met = (bits >> split & 1).astype(np.bool_)
        np.multiply(share, passed, out=share, where=met)
        np.divide(share, here[:, None, None], out=share, where=met)
    # The lowest bit of a feature is its first split, since a split comes before those below it.
    order = np.argsort(np.where(bits, bits & -bits, 255), axis=2, kind="stable")
    bits, share = np.take_along_axis(bits, order, axis=2), np.take_along_axis(share, order, axis=2)
    counts = sum((bits[:, :, column] > 0).astype(np.intp) for column in range(most))
    counts = np.where(np.arange(_MOST_LEAVES) < [[len(one.value)] for one in trees], counts, -1)
    found = []
    for count in range(most + 1):
        tree, number = np.nonzero(counts == count)
        on_path = bits[tree, number, :count]
        found.append(
            _Leaves(
                tree, number, paths.values[tree, number], order[tree, number, :count], on_path,
                on_path & paths.wanted[tree, number, None], share[tree, number, :count],
            )
        )  # fmt: skip
    return found


def _passed(trees: Sequence[Tree], paths: LeafPaths) -> Iterator[tuple[Matrix, Matrix, Matrix]]:
    """For each split, how many training rows go left, go right and reach it, each of shape (trees,)."""
    splits, leaves = paths.feature.shape[1], paths.values.shape[1]
    reached = np.zeros((len(trees), splits + leaves + 1))
    reached[:, splits:-1] = [(*tree.rows, *(0.0,) * (leaves - len(tree.rows))) for tree in trees]
    each = np.arange(len(trees))
    left, right = places_of_children(paths.left), places_of_children(paths.right)
    for split in reversed(range(splits)):  # a split comes before those below it
        reached[:, split] = reached[each, left[:, split]] + reached[each, right[:, split]]
    for split in range(splits):
        yield reached[each, left[:, split]], reached[each, right[:, split]], reached[:, split]


def _added(leaves: Sequence[_Leaves], trees: slice, most: int, shares: Matrix | None) -> tuple[Matrix, float]:
    """What the features that trees read add to the margin, shape (trees, features of one, patterns), and the base."""
    table, base = np.zeros((trees.stop - trees.start, most, PATTERNS)), 0.0
    for count, all_of_count in enumerate(leaves):
        some = all_of_count.of(trees)
        if len(some):
            base += _add(table, some, count, shares)
    return table, base


def _shares(reference: ReasonReference) -> Matrix:
    """The share of the reference group with each outcome pattern, shape (trees, patterns)."""
    found = np.zeros((len(reference.outcomes), PATTERNS))
    for tree, outcomes in enumerate(reference.outcomes):
        for pattern, count in outcomes:
            found[tree, pattern] = count / reference.rows
    return found


def _add(table: Matrix, leaves: _Leaves, count: int, shares: Matrix | None) -> float:
    """Add the contributions of leaves with `count` features on their paths; returns their part of the base."""
    patterns = np.arange(PATTERNS, dtype=np.uint8)
    # the features that agree with the path, as bits; shape (leaves, patterns)
    agreeing = np.zeros((len(leaves), PATTERNS), dtype=np.intp)
    for j in range(count):
        agreeing |= (patterns & leaves.bits[:, j, None] == leaves.wanted[:, j, None]).astype(np.intp) << j
    expected = _expected(leaves.share, agreeing, None if shares is None else shares[leaves.tree])
    added = leaves.value[:, None, None] * np.tensordot(expected, _shapley(count), axes=1)
    # A tree has one leaf of each number, so that no place is added to twice at once.
    for leaf in range(int(leaves.number.max()) + 1):
        rows = np.flatnonzero(leaves.number == leaf)
        for j in range(count):
            contribution = np.take_along_axis(added[rows, :, j], agreeing[rows], axis=1)
            table[leaves.tree[rows], leaves.columns[rows, j]] += contribution
    return float(leaves.value @ expected[:, -1])


def _expected(share: Matrix, agreeing: Places, shares: Matrix | None) -> Matrix:
    """For each set of features, as bits, the share of the reference that agrees with the path at all of them.

    `share` has the shares of training rows, shape (leaves, features), where there is no reference group.
    """
    size, count = share.shape
    found = np.zeros((size, 1 << count))
    if shares is None:
        for chosen in range(1 << count):
            found[:, chosen] = np.prod(share[:, [j for j in range(count) if chosen >> j & 1]], axis=1)
        return found
    places = agreeing + (np.arange(size) << count)[:, None]
    found.ravel()[:] = np.bincount(places.ravel(), weights=shares.ravel(), minlength=size << count)
    for j in range(count):  # from exactly these features to at least these
        without = [chosen for chosen in range(1 << count) if not chosen >> j & 1]
        found[:, without] += found[:, [chosen | 1 << j for chosen in without]]
    return found


@cache
def _shapley(count: int) -> Matrix:
    """Weights that turn expectations into Shapley values, shape (sets, agreeing features, features).

    A leaf gives its value to a set S of features of the row if S agrees with the path, times the share of the reference
    that agrees at all other features.
    """
    sets, everything = 1 << count, (1 << count) - 1
    weights = np.zeros((sets, sets, count))
    for j in range(count):
        for s in (s for s in range(sets) if not s >> j & 1):
            size = s.bit_count()
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            with_j = s | 1 << j
            for agreeing in range(sets):
                weights[everything & ~with_j, agreeing, j] += weight * (with_j & ~agreeing == 0)
                weights[everything & ~s, agreeing, j] -= weight * (s & ~agreeing == 0)
    return weights
