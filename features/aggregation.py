"""Aggregation: the roll-ups of one table's rows, which lie together by their owner, the newest first.

Each distinct formula, filter and sum is computed once, and rows of one kind lie in one matrix. The rows of an owner are
a segment, which is added up on its own: no other row changes a bit of its result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.formulas import Call, Constant, Expression, Source, calls_by_level, nodes
from features.histories import Aggregate, History, Rollup
from features.operations import OPERATIONS, WEIGHTED, Values

_Rows = NDArray[np.float64]
"""Shape (k, n): k values of each of n rows of a table."""
_Chosen = NDArray[np.bool_]
_Value = Expression | str
"""A formula, or one of the two values that every row has: its age in days, and its place among the rows."""

_AGE, _PLACE = "age", "place"
_DAYS_OF_YEAR = 365.25
_ONE, _ZERO = Constant(1.0), Constant(0.0)
# Their values are 0, 1 or missing, so that their mean is the share of what is not 0.
_BOOLEAN = frozenset(
    {"missing", "every", "either", "negation", "less", "at_most", "more", "at_least", "equal", "unequal"}
)
_UNCOUNTED = frozenset({Aggregate.MAX, Aggregate.MIN, Aggregate.LAST, Aggregate.DAYS_SINCE})
_AVERAGED = frozenset({Aggregate.SUM, Aggregate.MEAN, Aggregate.SHARE})


class Aggregation:
    """The compiled roll-ups of one table.

    Attributes
    ----------
    of_no_rows : the roll-ups of an owner without rows, shape (n_rollups,): counts are 0, all else is missing
    """

    def __init__(self, history: History) -> None:
        rollups = history.rollups
        self._known = _Known(history, map(_value, rollups))
        self._masks = _Masks(rollups, self._known.at)
        chosen = _Needs(rollups, self._known.at, self._masks.at)
        self._selected, self._mask_of = _columns(chosen.selections, 2)
        self._counted = chosen.counted
        self._sum_of, self._summed = _columns(chosen.sums, 2)
        self._extreme_of, self._compared = _columns(chosen.extremes, 3)[:2]
        self._signs = _column(sign for *_, sign in chosen.extremes)
        self._averages, self._lasts, self._trends = (
            _columns(each, width) for each, width in ((chosen.averages, 3), (chosen.lasts, 2), (chosen.trends, 6))
        )
        self._age = self._known.at.get(_AGE, 0)
        self._order = np.array(chosen.order(), dtype=np.intp)
        self.of_no_rows = np.array(
            [0.0 if rollup.aggregate is Aggregate.COUNT else np.nan for rollup in rollups], dtype=np.float64
        )

    def of(self, values: _Rows, made: _Rows, age: NDArray[np.float64] | None, starts: NDArray[np.intp]) -> _Rows:
        """The roll-ups of each owner, shape (n_rollups, owners).

        `values` are the stated columns, `made` the roll-ups of the tables that hang on this one, `age` the days before
        the application, which rise within the rows of an owner. `starts` are the first rows of the owners.
        """
        known = self._known.of(values, made, age)
        present = self._masks.of(known, age, starts).take(self._mask_of, axis=0)
        present &= ~np.isnan(known.take(self._selected, axis=0))
        counts, sums = self._added(known, present, starts)
        parts = [counts]
        if len(self._averages[0]):
            total, count, is_sum = self._averages
            numbers = counts.take(count, axis=0)
            by = np.where(is_sum[:, np.newaxis] == 1, 1.0, numbers)
            parts.append(np.where(numbers > 0, sums.take(total, axis=0) / by, np.nan))
        if len(self._signs):
            extremes = self._extremes_of(known, present, starts)
            parts.append(extremes)
            if len(self._lasts[0]):
                parts.append(_picked(known, self._lasts[1], extremes.take(self._lasts[0], axis=0)))
            if len(self._trends[0]):
                parts.append(self._slopes(known, present, starts, (counts, sums, extremes)))
        found = np.concatenate(parts).take(self._order, axis=0)
        # One zero and one NaN for all: which of two is taken may depend on the length of a segment.
        return np.where(np.isfinite(found), found + 0.0, np.nan)

    def _added(self, known: _Rows, present: _Chosen, starts: NDArray[np.intp]) -> tuple[_Rows, _Rows]:
        """How many rows each selection has that is counted, and the sums."""
        summands = np.where(present.take(self._sum_of, axis=0), known.take(self._summed, axis=0), 0.0)
        added = np.add.reduceat(np.concatenate([present[: self._counted], summands]), starts, axis=1)
        return added[: self._counted], added[self._counted :]

    def _extremes_of(self, known: _Rows, present: _Chosen, starts: NDArray[np.intp]) -> _Rows:
        """The largest values, and the smallest as the largest of their opposites."""
        values = known.take(self._compared, axis=0) * self._signs
        present = present.take(self._extreme_of, axis=0)
        return np.asarray(np.fmax.reduceat(np.where(present, values, np.nan), starts, axis=1)) * self._signs

    def _slopes(
        self, known: _Rows, present: _Chosen, starts: NDArray[np.intp], found: tuple[_Rows, _Rows, _Rows]
    ) -> _Rows:
        """Slopes per year, in two passes: products of what is not centred would lose digits."""
        selection, value, age_sum, value_sum, oldest, newest = self._trends
        counts, sums, extremes = found
        count, present = counts.take(selection, axis=0), present.take(selection, axis=0)
        ages = known[self._age] - _to_rows(sums.take(age_sum, axis=0) / count, starts, present)
        values = known.take(value, axis=0) - _to_rows(sums.take(value_sum, axis=0) / count, starts, present)
        products = np.where(np.concatenate([present, present]), np.concatenate([ages * values, ages * ages]), 0.0)
        upper, lower = np.split(np.add.reduceat(products, starts, axis=1), 2)
        differ = extremes.take(oldest, axis=0) > extremes.take(newest, axis=0)
        return np.where(differ, -_DAYS_OF_YEAR * upper / lower, np.nan)


class _Needs:
    """What each roll-up of a table needs, each distinct need once: its place among needs of its kind is its number.

    Attributes
    ----------
    selections : pairs of a known value and a mask; those that are `counted` stand first
    sums : pairs of a selection and the value to add up
    extremes : triples of a selection, a value, and 1 for its largest or -1 for its smallest
    averages : triples of a sum, a selection, and 1 where the sum itself is wanted
    lasts : pairs of the extreme that is the place of the row, and the value in that row
    trends : selection, value, sum of ages, sum of values, largest and smallest age
    """

    def __init__(self, rollups: Sequence[Rollup], at: dict[_Value, int], masks: dict[_Mask, int]) -> None:
        self._at = at
        needs = [(rollup.aggregate, at[_value(rollup)], masks[_mask(rollup)]) for rollup in rollups]
        counted = dict.fromkeys((value, mask) for aggregate, value, mask in needs if aggregate not in _UNCOUNTED)
        self.counted = len(counted)
        self.selections = dict.fromkeys([*counted, *((value, mask) for _, value, mask in needs)])
        number = {one: i for i, one in enumerate(self.selections)}
        self.sums, self.extremes = dict[tuple[int, int], int](), dict[tuple[int, int, int], int]()
        self.averages, self.lasts = dict[tuple[int, int, int], int](), dict[tuple[int, int], int]()
        self.trends: dict[tuple[int, ...], int] = {}
        self._placed = [self._place(aggregate, value, number[value, mask]) for aggregate, value, mask in needs]

    def _place(self, aggregate: Aggregate, value: int, selection: int) -> tuple[int, int]:
        """Which of the parts a roll-up is in, and at which place."""
        if aggregate is Aggregate.COUNT:
            return 0, selection
        if aggregate in _AVERAGED:
            total = _number(self.sums, (selection, value))
            return 1, _number(self.averages, (total, selection, int(aggregate is Aggregate.SUM)))
        if aggregate is Aggregate.LAST:
            newest = _number(self.extremes, (selection, self._at[_PLACE], -1))
            return 3, _number(self.lasts, (newest, value))
        if aggregate is Aggregate.TREND:
            age = self._at[_AGE]
            sums = _number(self.sums, (selection, age)), _number(self.sums, (selection, value))
            ends = _number(self.extremes, (selection, age, 1)), _number(self.extremes, (selection, age, -1))
            return 4, _number(self.trends, (selection, value, *sums, *ends))
        return 2, _number(self.extremes, (selection, value, 1 if aggregate is Aggregate.MAX else -1))

    def order(self) -> list[int]:
        """The rows of the roll-ups among all parts, one below the other."""
        sizes = [self.counted, len(self.averages), len(self.extremes), len(self.lasts)]
        return [sum(sizes[:part]) + place for part, place in self._placed]


class _Known:
    """Every value that the roll-ups of a table read, a row of a matrix each: `at` says which."""

    def __init__(self, history: History, wanted: Iterable[_Value]) -> None:
        formulas: list[Expression] = [one for one in wanted if not isinstance(one, str)]
        formulas += [one.where for one in history.rollups if one.where is not None]
        every = dict.fromkeys(node for one in formulas for node in nodes(one))
        schema, self._stated = history.schema, len(history.stated)
        self.at: dict[_Value, int] = {Source(column.name): i for i, column in enumerate(schema)}
        self._columns = len(self.at)
        self.at[_PLACE] = self._columns
        self._aged = history.time is not None
        if self._aged:
            self.at[_AGE] = len(self.at)
        self._constants = self._rows_of(one for one in every if isinstance(one, Constant))
        self._numbers = _column(float(one.value) for one in every if isinstance(one, Constant))
        levels = [one for one in every if isinstance(one, Source) and one.level is not None]
        self._indicators = self._rows_of(levels)
        self._categories = np.array([self.at[Source(one.column)] for one in levels], dtype=np.intp)
        self._levels = _column(schema[one.column].levels.index(str(one.level)) for one in levels)
        self._steps = [self._groups(calls) for calls in calls_by_level(formulas)]
        codes = [(i, code) for i, one in enumerate(history.stated) if one.numeric for code in one.missing]
        self._coded = np.array([i for i, _ in codes], dtype=np.intp)
        self._codes = _column(float(code) for _, code in codes)

    def of(self, values: _Rows, made: _Rows, age: NDArray[np.float64] | None) -> _Rows:
        known = np.empty((len(self.at), values.shape[1]))
        known[: self._stated] = values
        known[self._stated : self._columns] = made
        known[self.at[_PLACE]] = np.arange(values.shape[1])
        if age is not None:
            known[self.at[_AGE]] = age
        if len(self._coded):
            for row, where in zip(self._coded, known.take(self._coded, axis=0) == self._codes, strict=True):
                known[row, where] = np.nan
        known[self._constants] = self._numbers
        if len(self._levels):
            levels = known.take(self._categories, axis=0)
            known[self._indicators] = np.where(np.isnan(levels), np.nan, levels == self._levels)
        for sources, groups in self._steps:
            gathered = known.take(sources, axis=0)
            for operation, taken, shape, weights, rows in groups:
                known[rows] = OPERATIONS[operation](gathered[taken].reshape(shape), weights)
        return known

    def _rows_of(self, added: Iterable[_Value]) -> slice:
        """The rows of values that are not known yet."""
        start = len(self.at)
        self.at |= {one: start + i for i, one in enumerate(added)}
        return slice(start, len(self.at))

    def _groups(self, calls: Sequence[Call]) -> tuple[NDArray[np.intp], list[_Group]]:
        """The rows to gather for some calls that wait for no other, and the groups that compute them."""
        alike: dict[tuple[str, int, int], list[tuple[Call, list[Expression], list[float]]]] = defaultdict(list)
        for call in calls:
            values, weights = _arguments(call)
            alike[call.operation, len(values), len(weights)].append((call, values, weights))
        sources, groups = list[int](), list[_Group]()
        for (operation, arity, weighted), members in alike.items():
            taken = slice(len(sources), len(sources) + arity * len(members))
            sources += [self.at[values[place]] for place in range(arity) for _, values, _ in members]
            numbers = np.array([weights for *_, weights in members]).T.reshape(weighted, len(members), 1)
            rows = self._rows_of(call for call, *_ in members)
            groups.append((operation, taken, (arity, len(members), -1), numbers, rows))
        return np.array(sources, dtype=np.intp), groups


_Group = tuple[str, slice, tuple[int, int, int], Values, slice]
"""Calls of one form: operation, part of the gathered rows and its shape, weights, rows of the results."""

_Mask = tuple[Expression | None, int | None, int | None]
"""Filter, most days before the application, and most rows."""


class _Masks:
    """Which rows each distinct choice of rows takes: `at` says which row of the result is whose."""

    def __init__(self, rollups: Sequence[Rollup], at: dict[_Value, int]) -> None:
        masks = dict.fromkeys(map(_mask, rollups))
        self.at: dict[_Mask, int] = {mask: i for i, mask in enumerate(masks)}
        # The conditions, one below the other: none, the filters, the days, the numbers of rows.
        wheres = dict.fromkeys(where for where, *_ in masks if where is not None)
        days = dict.fromkeys(days for _, days, _ in masks if days is not None)
        lasts = dict.fromkeys((where, last) for where, _, last in masks if last is not None)
        rows: dict[Any, int] = {one: 1 + i for i, one in enumerate([*wheres, *days, *lasts])}
        self._filters = np.array([at[one] for one in wheres], dtype=np.intp)
        self._days, self._lasts = _column(days), _column(last for _, last in lasts)
        self._filtered = np.array([rows.get(where, 0) for where, _ in lasts], dtype=np.intp)
        self._first = np.array([rows.get(where, 0) for where, *_ in masks], dtype=np.intp)
        self._second = np.array(
            [rows[where, last] if last is not None else rows.get(days, 0) for where, days, last in masks], dtype=np.intp
        )
        self._conditions = 1 + len(rows)

    def of(self, known: _Rows, age: NDArray[np.float64] | None, starts: NDArray[np.intp]) -> _Chosen:
        holds = np.empty((self._conditions, known.shape[1]), dtype=np.bool_)
        holds[0] = True
        days, lasts = 1 + len(self._filters), 1 + len(self._filters) + len(self._days)
        if len(self._filters):
            values = known.take(self._filters, axis=0)
            holds[1:days] = (values != 0) & ~np.isnan(values)
        if len(self._days) and age is not None:
            holds[days:lasts] = age <= self._days
        if len(self._lasts):
            holds[lasts:] = _ranks(holds.take(self._filtered, axis=0), starts) <= self._lasts
        return holds.take(self._first, axis=0) & holds.take(self._second, axis=0)


def _ranks(taken: _Chosen, starts: NDArray[np.intp]) -> NDArray[np.int64]:
    """The number, from 1, of each taken row among those of its owner."""
    counts: NDArray[np.int64] = np.cumsum(taken, axis=1, dtype=np.int64)
    if len(starts) == 1:
        return counts
    before = counts.take(starts, axis=1) - taken.take(starts, axis=1)
    return np.asarray(counts - _to_rows(before, starts, taken))


def _to_rows(found: NDArray[Any], starts: NDArray[np.intp], like: NDArray[Any]) -> NDArray[Any]:
    """The values of the owners, at each of their rows."""
    if len(starts) == 1:
        return found
    return np.repeat(found, np.diff(starts, append=like.shape[1]), axis=1)


def _picked(known: _Rows, rows: NDArray[np.intp], places: _Rows) -> _Rows:
    """Values at the places of each owner, NaN where there is no place; both have the shape (k, owners)."""
    missing = np.isnan(places)
    found = known[rows[:, np.newaxis], np.where(missing, 0, places).astype(np.intp)]
    return np.where(missing, np.nan, found)


def _value(rollup: Rollup) -> _Value:
    """What a roll-up looks at in each row."""
    if rollup.aggregate is Aggregate.DAYS_SINCE:
        return _AGE
    of = rollup.of or _ONE
    if rollup.aggregate is not Aggregate.SHARE:
        return of
    boolean = (isinstance(of, Call) and of.operation in _BOOLEAN) or (isinstance(of, Source) and of.level is not None)
    return of if boolean else Call("unequal", (of, _ZERO))


def _mask(rollup: Rollup) -> _Mask:
    return rollup.where, rollup.within, rollup.last


def _arguments(call: Call) -> tuple[list[Expression], list[float]]:
    """The values and the weights of a call."""
    if call.operation not in WEIGHTED:
        return list(call.arguments), []
    first = 1 if call.operation == "scaled" else len(call.arguments) // 2
    return list(call.arguments[first:]), [one.value for one in call.arguments[:first] if isinstance(one, Constant)]


def _number(found: dict[Any, int], key: Hashable) -> int:
    """The number of a key, a new one unless it has one already."""
    return found.setdefault(key, len(found))


def _columns(rows: Iterable[tuple[int, ...]], width: int) -> tuple[NDArray[np.intp], ...]:
    """The columns of a table of whole numbers."""
    return tuple(np.array(list(rows), dtype=np.intp).reshape(-1, width).T.copy())


def _column(numbers: Iterable[float]) -> NDArray[np.float64]:
    """Numbers one below the other, shape (k, 1)."""
    return np.array(list(numbers), dtype=np.float64).reshape(-1, 1)
