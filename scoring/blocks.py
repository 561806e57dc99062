"""Trees of at most sixteen leaves for blocks of rows: what is fixed for a call is paid once for a thousand rows.

Splits of different trees often compare the same column with the same number. So the different comparisons of a model
are made once for the whole block, which gives bytes of 0 and 1. The bytes of a tree's splits are put together to its
outcome pattern, and the leaf is looked up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from scoring.trees import LARGEST, ZERO, Matrix, Slot, Tree, TreeTables, goes_right, places_of, short_buffers

MOST_LEAVES = 16
_BYTE = 8
"""Splits whose outcomes fit into a byte; a tree of more than nine leaves has two bytes."""
# Measured: with fewer rows the calls of NumPy cost more than their work, with more the bytes leave the cache.
_BLOCK_ROWS = 1_024
_VALUES_AT_ONCE = 1 << 16
_FEW_ROWS = 128
"""Rows up to which a copy of each number for each comparison costs less than a call of NumPy for each number."""

Bytes = NDArray[np.uint8]
Places = NDArray[np.intp]


class BlockTables:
    """The trees of a model for blocks of rows: ten times as fast as LightGBM, with the same bits.

    `small` has the values of trees that have at most eight leaves.

    >>> tree = Tree((0,), (0.5,), (-1,), (-2,), (8,), (-0.25, 0.25), (10.0, 10.0), ())
    >>> BlockTables([tree, tree]).margins(np.array([[0.5], [0.75], [np.nan]])).tolist()
    [-0.5, 0.5, 0.5]
    """

    def __init__(self, trees: Sequence[Tree], small: TreeTables | None = None) -> None:
        self._comparisons = _Comparisons(trees)
        self._first = _Patterns([one[:_BYTE] for one in self._comparisons.at])
        self._rest = _Patterns([one[_BYTE:] for one in self._comparisons.at])
        if small is not None:
            self._offsets, self._values = small.offsets[:, np.newaxis], small.values.ravel()
        else:
            self._look_up_leaves([_Leaves(tree) for tree in trees])

    def _look_up_leaves(self, leaves: Sequence[_Leaves]) -> None:
        begins = [
            one.begins + start for one, start in zip(leaves, _starts(one.size for one in leaves).tolist(), strict=True)
        ]
        self._offsets = _starts(map(len, begins))[:, np.newaxis]
        # Where the values of each first pattern begin: there is one value if a tree has no more splits.
        self._begins = np.concatenate(begins)
        self._values = np.concatenate([value for one in leaves for value in one.values])
        if not self._rest.splits:
            self._values = self._values.take(self._begins)

    def margins(self, matrix: Matrix) -> NDArray[np.float64]:
        """The margin of each row of a model matrix, shape (n,)."""
        if len(matrix) == 1:  # np.add.reduce adds one row's values in pairs, but those of several rows one by one
            return self.margins(matrix.repeat(2, axis=0))[:1]
        blocks = -(-len(matrix) // _BLOCK_ROWS)
        ends = [len(matrix) * block // blocks for block in range(1, blocks + 1)]
        parts = [self._block(matrix[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        return np.concatenate(parts) if parts else np.empty(0)

    def patterns(self, matrix: Matrix) -> Bytes:
        """The outcome pattern of each row in each tree, shape (n, trees), where each tree has at most eight leaves."""
        found = np.empty((len(self._offsets), len(matrix)), dtype=np.uint8)
        for start in range(0, len(matrix), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            patterns = self._first.of(self._comparisons.of(matrix[rows]))
            found[:, rows] = self._first.chosen(patterns, slice(None))
        return found.T  # the rows of one tree lie together, as who looks up many of them needs

    def _block(self, matrix: Matrix) -> NDArray[np.float64]:
        outcomes = self._comparisons.of(matrix)
        first, rest = self._first.of(outcomes), self._rest.of(outcomes) if self._rest.splits else None
        margins = np.zeros(len(matrix))
        at_once = min(max(1, _VALUES_AT_ONCE // len(matrix)), len(self._offsets))
        places = np.empty((at_once, len(matrix)), dtype=np.intp)
        values = np.empty(places.shape)
        for start in range(0, len(self._offsets), at_once):
            trees = slice(start, start + at_once)
            count = len(self._offsets[trees])
            place, value = places[:count], values[:count]
            np.add(self._first.chosen(first, trees), self._offsets[trees], out=place)
            if rest is not None:
                place = self._begins.take(place)
                place += self._rest.chosen(rest, trees)
            # "wrap" writes into `out` directly, where "raise" would fill a buffer first; no place is out of bounds.
            self._values.take(place, out=value, mode="wrap")
            value[0] += margins
            np.add.reduce(value, axis=0, out=margins)  # tree by tree, in their order, as LightGBM adds
        return margins


class _Comparisons:
    """The different comparisons of the splits of a model. `at` has the place of that of each split of each tree."""

    # NaN is above nothing and at most nothing. So a split that sends it left asks `number > threshold`, one that sends
    # it right the opposite of `number <= threshold`, and no number is replaced.

    def __init__(self, trees: Sequence[Tree]) -> None:
        splits = dict.fromkeys(chain.from_iterable(tree.comparisons for tree in trees))
        numbers = [one for one in splits if one[0].levels is None]
        left = sorted(one for one in numbers if not one[0].instead_of_nan > one[1])
        right = sorted(one for one in numbers if one[0].instead_of_nan > one[1])
        categories = [one for one in splits if one[0].levels is not None]
        place = {comparison: number for number, comparison in enumerate([*left, *right, *categories])}
        self.at = [[place[comparison] for comparison in tree.comparisons] for tree in trees]
        # Behind the features come those whose zeros are missing.
        zeros = sorted({slot.feature for slot, _ in numbers if slot.zero_is_missing})
        self._zeros = np.array(zeros, dtype=np.intp)
        self._left, self._right = (_Thresholds(one, zeros) for one in (left, right))
        coded = sorted({slot.feature for slot, _ in categories})
        self._codes = np.array(coded, dtype=np.intp)
        self._code_of = [coded.index(slot.feature) for slot, _ in categories]
        self._sent = goes_right([slot.levels or frozenset() for slot, _ in categories]).astype(np.uint8)

    def of(self, matrix: Matrix) -> Bytes:
        """Whether each comparison sends each row of a model matrix right, 0 or 1, shape (comparisons, n)."""
        found = np.empty((len(self._left) + len(self._right) + len(self._sent), len(matrix)), dtype=np.uint8)
        numbers = np.ascontiguousarray(matrix.T)
        codes = list(places_of(numbers.take(self._codes, axis=0), self._sent.shape[1] - 1))
        if len(self._zeros):
            zeros = numbers.take(self._zeros, axis=0)
            numbers = np.concatenate([numbers, np.where(np.abs(zeros) <= ZERO, np.nan, zeros)])
        start, end = len(self._left), len(self._left) + len(self._right)
        above, at_most = found[:start].view(np.bool_), found[start:end].view(np.bool_)
        self._left.compare(np.greater, numbers, above)
        self._right.compare(np.less_equal, numbers, at_most)
        np.logical_not(at_most, out=at_most)
        for row, sent, code in zip(found[end:], self._sent, self._code_of, strict=True):
            sent.take(codes[code], out=row, mode="wrap")
        return found


class _Thresholds:
    """The thresholds of some comparisons; those of one number lie together."""

    def __init__(self, comparisons: Sequence[tuple[Slot, float]], zeros: Sequence[int]) -> None:
        at = [zeros.index(one.feature) - len(zeros) if one.zero_is_missing else one.feature for one, _ in comparisons]
        self._number_of = np.array(at, dtype=np.intp)
        # Infinity goes where the largest finite number goes, as in LightGBM.
        self._thresholds = np.array([np.inf if one >= LARGEST else one for _, one in comparisons]).reshape(-1, 1)
        ends = [*(np.flatnonzero(np.diff(at)) + 1).tolist(), len(at)] if at else []
        self._parts = [(at[start], slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]

    def __len__(self) -> int:
        return len(self._number_of)

    def compare(self, operation: np.ufunc, numbers: Matrix, found: NDArray[np.bool_]) -> None:
        """Write what the operation says of each number and threshold, shape (comparisons, n)."""
        if numbers.shape[1] <= _FEW_ROWS:
            operation(numbers.take(self._number_of, axis=0), self._thresholds, out=found)
            return
        with short_buffers():
            for number, part in self._parts:
                operation(numbers[number], self._thresholds[part], out=found[part])


class _Patterns:
    """The outcomes of some splits of each tree, given as the places of their comparisons, as the bits of a byte.

    `splits` says of how many splits.
    """

    def __init__(self, splits: Sequence[Sequence[int]]) -> None:
        # Those of most splits first: then the trees that have a third split, say, are the first ones.
        order = sorted(range(len(splits)), key=lambda tree: -len(splits[tree]))
        self._row = np.argsort(order)
        most = max(map(len, splits), default=0)
        self._planes: list[Places] = [
            np.array([splits[tree][i] for tree in order if len(splits[tree]) > i], dtype=np.intp) for i in range(most)
        ]
        self.splits = sum(map(len, splits))

    def of(self, outcomes: Bytes) -> Bytes:
        """The patterns, shape (trees, n), in an order of their own."""
        patterns = np.zeros((len(self._row), outcomes.shape[1]), dtype=np.uint8)
        for plane in reversed(self._planes):
            part = patterns[: len(plane)]
            part += part
            part |= outcomes.take(plane, axis=0)
        return patterns

    def chosen(self, patterns: Bytes, trees: slice) -> Bytes:
        """The patterns of the chosen trees, in the trees' order."""
        return patterns.take(self._row[trees], axis=0)


class _Leaves:
    """The leaves of one tree: `begins` has a place in `values` for each first pattern, and the rest is added to it."""

    def __init__(self, tree: Tree) -> None:
        self.begins = np.zeros(1 << min(len(tree.feature), _BYTE), dtype=np.intp)
        self.values: list[NDArray[np.float64]] = []
        self.size = 0
        exits: dict[_Path, list[tuple[int, _Path]]] = defaultdict(list)
        for leaf, path in tree.paths():
            first = tuple(step for step in path if step[0] < _BYTE)
            exits[first].append((leaf, tuple((split - _BYTE, right) for split, right in path if split >= _BYTE)))
        more = max(0, len(tree.feature) - _BYTE)
        for first, leaves in exits.items():
            self.begins[_agrees(first, len(self.begins))] = self.size
            values = np.empty(1 << more)
            for leaf, rest in leaves:
                values[_agrees(rest, 1 << more)] = tree.value[leaf]
            self.values.append(values)
            self.size += len(values)


_Path = tuple[tuple[int, bool], ...]


def _agrees(path: _Path, patterns: int) -> NDArray[np.bool_]:
    """Which of so many patterns go the path."""
    bits = sum(1 << split for split, _ in path)
    return np.asarray((np.arange(patterns) & bits) == sum(1 << split for split, right in path if right))


def _starts(sizes: Iterable[int]) -> Places:
    """Where each of several tables begins behind the ones before it."""
    return np.array(list(accumulate(sizes, initial=0))[:-1], dtype=np.intp)
