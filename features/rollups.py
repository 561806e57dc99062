"""Roll-ups: what the rows of histories say of each client, computed alike for one client and for millions.

The rows of a table are first put into one order: by their owner, the newest first, and rows of the same time by their
content. So neither the order of a file, nor its parts, nor other clients' rows change a bit of a roll-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.aggregation import Aggregation
from features.errors import ColumnsError
from features.histories import Histories, History

_BLOCK = 1 << 14
"""Rows that are aggregated at once, and more where one owner has more: measured, they stay in a processor's cache."""
_MANY = 10_000
"""So many rows are worth a table of all names' numbers, unless these lie far apart, and a sorting key of whole numbers.
"""
_SPARSE = 16
_PART = 4_000_000
"""Rows that are put into order at once, and more where one owner has more."""
_SAMPLED = 997
_LARGEST = 2**62

_Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class HistoryRows:
    """Rows of one table of histories.

    Attributes
    ----------
    values : float64, shape (stated columns, n): a category is the position of its level among the declared ones, and
        their number where it is none of them; a date is days since 1970-01-01; NaN is missing
    keys : whose each row is, shape (n,): int64, or object of str
    ids : the name of each row where another table hangs on this one, shape (n,); else None
    """

    values: NDArray[np.float64]
    keys: NDArray[Any]
    ids: NDArray[Any] | None = None


RowsOf = Callable[[History, NDArray[Any]], Iterable[HistoryRows]]
"""The rows of a table for some owners, in parts: all rows of an owner are in one part. Other rows may be among them."""


def roll_up(
    histories: Histories,
    tables: Mapping[str, HistoryRows],
    clients: NDArray[Any],
    days: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The roll-ups of clients, shape (n, len(histories.columns)); NaN is missing.

    A table that is absent has no rows, and rows of other clients are passed over. `days` are the days of the
    applications since 1970-01-01, which are needed where the time of a table is a date. ColumnsError if they are
    needed and not there, or if the values of a table have the wrong shape.
    """

    def rows_of(history: History, _: NDArray[Any]) -> Iterator[HistoryRows]:
        rows = tables.get(history.name)
        if rows is not None:
            yield rows

    return roll_up_parts(histories, rows_of, clients, days)


def roll_up_parts(
    histories: Histories, rows_of: RowsOf, clients: NDArray[Any], days: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The roll-ups of clients as `roll_up` gives them, from rows that are asked for table by table."""
    plan = _plan(histories)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.concatenate([plan.of(table, rows_of, clients, days) for table in histories.of_clients], axis=1)


@lru_cache(maxsize=16)
def _plan(histories: Histories) -> _Plan:
    return _Plan(histories)


class _Plan:
    """The compiled histories of a portfolio."""

    def __init__(self, histories: Histories) -> None:
        self._aggregations = {table.name: Aggregation(table) for table in histories.tables}
        self._children = {table.name: histories.children(table.name) for table in histories.tables}
        self._times = {
            table.name: [column.name for column in table.stated].index(table.time.name) if table.time else None
            for table in histories.tables
        }

    def of(
        self, table: History, rows_of: RowsOf, owners: NDArray[Any], days: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """The roll-ups of one table, shape (len(owners), its roll-ups)."""
        dated = table.time is not None and table.days is None
        if table.time is not None and dated and days is None:
            raise ColumnsError(f"{table.name}: {table.time.name} is a date, which needs the days of the applications")
        of_no_rows = self._aggregations[table.name].of_no_rows
        found = np.empty((len(owners), len(of_no_rows)))
        found[:] = of_no_rows
        index = _Owners.of(owners)
        for read in rows_of(table, owners):
            if len(read.values) != len(table.stated):
                raise ColumnsError(f"{table.name}: {len(read.values)} columns, not the {len(table.stated)} declared")
            for rows in _split(index.numbered(read)):
                self._write(found, _Part(table, rows, self._times[table.name]), rows_of, index, days)
        if dated and days is not None:
            found[np.isnan(days)] = np.nan
        return found

    def _write(
        self,
        found: NDArray[np.float64],
        part: _Part,
        rows_of: RowsOf,
        owners: _Owners,
        days: NDArray[np.float64] | None,
    ) -> None:
        """Write the roll-ups of those owners that have rows in this part."""
        ordered = part.ordered(owners, days)
        made = np.empty((0, len(ordered)))
        if (children := self._children[part.table.name]) and len(ordered):
            names, at = part.ids(ordered), None if days is None else days[ordered.owner]
            made = np.concatenate([self.of(child, rows_of, names, at) for child in children], axis=1).T
        ordered, made = part.without_ties(ordered, made)
        aggregation = self._aggregations[part.table.name]
        for block, starts in _blocks(ordered.owner):
            age = None if ordered.age is None else ordered.age[block]
            rolled_up = aggregation.of(part.values(ordered, block), made[:, block], age, starts)
            found[ordered.owner[block][starts]] = rolled_up.T


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Chosen rows of a part, those of an owner together and the newest first.

    Attributes
    ----------
    rows : their places in the part; None for all of it, as it is
    owner : the place of each row's owner
    age : days before the application; None if the table has no time
    """

    rows: _Places | None
    owner: NDArray[Any]
    age: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, chosen: _Places) -> _Ordered:
        rows = chosen if self.rows is None else self.rows.take(chosen)
        return _Ordered(rows, self.owner.take(chosen), None if self.age is None else self.age.take(chosen))


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a table, with the place of the time among its columns."""

    table: History
    rows: HistoryRows
    time: int | None

    def values(self, ordered: _Ordered, block: slice) -> NDArray[np.float64]:
        values = self.rows.values
        if ordered.rows is None:
            return values[:, block]
        chosen = ordered.rows[block]
        if values.flags.c_contiguous:
            return values.take(chosen, axis=1)
        # A view of some rows would be copied as a whole for each block.
        found = np.empty((len(values), len(chosen)))
        for row, column in zip(found, values, strict=True):
            row[:] = column[chosen]
        return found

    def ids(self, ordered: _Ordered) -> NDArray[Any]:
        if self.rows.ids is None:
            raise ColumnsError(f"{self.table.name}: the rows need names, since another table hangs on them")
        return self.rows.ids if ordered.rows is None else self.rows.ids.take(ordered.rows)

    def ordered(self, owners: _Owners, days: NDArray[np.float64] | None) -> _Ordered:
        """The rows of the owners that are not later than the application; those of equal times in any order."""
        rows, owner = owners.owned(self.rows.keys)
        if self.time is None:
            found = _Ordered(rows, owner, None)
        else:
            times = self.rows.values[self.time]
            age = self._age(times if rows is None else times.take(rows), owner, days)
            found = _Ordered(rows, owner, age)
            known = age >= 0  # not so if the time is missing
            if not known.all():
                found = found.take(np.flatnonzero(known))
        return found if _is_ordered(found) else found.take(_order(found, abs(self.table.days or 1.0)))

    def _age(
        self, times: NDArray[np.float64], owner: NDArray[Any], days: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        for code in self.table.time.missing if self.table.time else ():
            times = np.where(times == code, np.nan, times)
        if self.table.days is None:
            return np.asarray(np.asarray(days)[owner] - times)
        return np.asarray(times * self.table.days)

    def without_ties(self, ordered: _Ordered, made: NDArray[np.float64]) -> tuple[_Ordered, NDArray[np.float64]]:
        """The rows with those of equal times in the order of their contents, and each row once."""
        same = _same_time(ordered)
        if not same.any():
            return ordered, made
        tied = np.flatnonzero(_either(same))
        group = np.cumsum(np.append(True, ~same).take(tied))
        sequence, repeated = _by_content(group, self._contents(ordered, tied))
        order = np.arange(len(ordered))
        order[tied] = tied[sequence]
        order = np.delete(order, tied[repeated])
        return ordered.take(order), made.take(order, axis=1)

    def _contents(self, ordered: _Ordered, tied: _Places) -> Iterator[Callable[[_Places], NDArray[np.int64]]]:
        """What tells tied rows apart, each column as whole numbers of some of them; the time at last."""
        rows = tied if ordered.rows is None else ordered.rows.take(tied)
        columns = [column for column in range(len(self.rows.values)) if column != self.time]
        for column in [*columns, *(() if self.time is None else (self.time,))]:
            yield partial(_content, self.rows.values[column], rows)
        if self.rows.ids is not None:
            yield partial(_content, self.rows.ids, rows)


@dataclass(frozen=True, slots=True)
class _Owners:
    """The owners by their names.

    Attributes
    ----------
    names : the names, rising; a text is the number of its first place
    order : the places of the owners in this order; None if they are in it
    ends : where names are repeated, the place behind the last one of each name
    numbers : the numbers of texts; None if names are whole numbers
    """

    names: NDArray[np.int64]
    order: _Places | None
    ends: _Places | None
    numbers: dict[Any, int] | None

    @classmethod
    def of(cls, owners: NDArray[Any]) -> _Owners:
        numbers: dict[Any, int] | None = None
        if owners.dtype == object:
            numbers = {}
            owners = np.array([numbers.setdefault(name, len(numbers)) for name in owners.tolist()], dtype=np.int64)
        if len(owners) < 2:
            return cls(owners, None, None, numbers)
        order = None
        if (owners[1:] < owners[:-1]).any():
            order = np.argsort(owners, kind="stable")
            owners = owners[order]
        repeated = (owners[1:] == owners[:-1]).any()
        return cls(owners, order, np.searchsorted(owners, owners, side="right") if repeated else None, numbers)

    def numbered(self, rows: HistoryRows) -> HistoryRows:
        """The rows with whole numbers for keys, -1 for a text that is no owner's."""
        if self.numbers is None:
            return rows
        keys = np.fromiter((self.numbers.get(key, -1) for key in rows.keys.tolist()), np.int64, len(rows.keys))
        return HistoryRows(rows.values, keys, rows.ids)

    def owned(self, keys: NDArray[Any]) -> tuple[_Places | None, NDArray[Any]]:
        """The rows that have an owner, None for all of them, and the place of each one's owner.

        A name that several owners have gives each of them the row.
        """
        if len(self.names) == 1:
            first = (keys == self.names[0]) - 1
        elif len(self.names) and len(keys):
            first = places_among(keys, self.names)
        else:
            first = np.full(len(keys), -1)
        rows = None if (first >= 0).all() else np.flatnonzero(first >= 0)
        owner = first if rows is None else first.take(rows)
        if self.ends is not None:
            rows, owner = _with_namesakes(rows, owner, self.ends)
        return rows, owner if self.order is None else self.order.take(owner)


def _split(rows: HistoryRows) -> Iterator[HistoryRows]:
    """Parts of many rows, each with all rows of its owners: what is made on the way is as large as a part."""
    keys = rows.keys
    if len(keys) <= _PART:
        yield rows
        return
    if (keys[1:] >= keys[:-1]).all():
        ends = np.searchsorted(keys, keys[_PART::_PART], side="left").tolist()
        for start, end in pairwise([0, *ends, len(keys)]):
            part = slice(start, end)
            yield HistoryRows(rows.values[:, part], keys[part], None if rows.ids is None else rows.ids[part])
        return
    some = np.sort(keys[::_SAMPLED])
    bounds = some[:: max(1, len(some) * _PART // len(keys))][1:].tolist()
    for low, high in pairwise([None, *bounds, None]):
        chosen = np.flatnonzero(_between(keys, low, high))
        ids = None if rows.ids is None else rows.ids.take(chosen)
        yield HistoryRows(rows.values.take(chosen, axis=1), keys.take(chosen), ids)


def _between(keys: NDArray[Any], low: int | None, high: int | None) -> NDArray[np.bool_]:
    found = np.ones(len(keys), dtype=np.bool_)
    if low is not None:
        found &= keys >= low
    if high is not None:
        found &= keys < high
    return found


def places_among(keys: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[Any]:
    """The first place of each key among rising names, of which there is one at least; -1 where it is none of them."""
    low, high = int(names[0]), int(names[-1])
    if len(keys) >= _MANY and high - low < _SPARSE * len(keys):
        table = np.full(high - low + 2, -1, dtype=np.int32)
        table[(names - low)[::-1]] = np.arange(len(names), dtype=np.int32)[::-1]
        return table.take(np.where((keys < low) | (keys > high), high + 1, keys) - low)
    places = np.searchsorted(names, keys)
    places[places == len(names)] = 0
    return np.where(names.take(places) == keys, places, -1)


def _with_namesakes(rows: _Places | None, owner: NDArray[Any], ends: _Places) -> tuple[_Places, _Places]:
    """Each row once for every owner of the name; `ends` is the place behind the last one of each owner's name."""
    many = ends.take(owner) - owner
    rows = np.arange(len(owner)) if rows is None else rows
    behind = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return np.repeat(rows, many), np.repeat(owner, many) + behind


def _is_ordered(found: _Ordered) -> bool:
    owner, age = found.owner, found.age
    rising = owner[1:] > owner[:-1]
    if rising.all():
        return True
    rising |= (owner[1:] == owner[:-1]) if age is None else (owner[1:] == owner[:-1]) & (age[1:] >= age[:-1])
    return bool(rising.all())


def _order(found: _Ordered, unit: float) -> _Places:
    """The order by owner, then by age."""
    owner, age = found.owner, found.age
    if age is None:
        return np.argsort(owner)
    if len(owner) < _MANY:
        return np.lexsort((age, owner))
    owner, steps = owner.astype(np.int64), age / unit
    span = steps.max() + 1
    # One key is sorted several times faster than two, and times are mostly whole days or months.
    if (np.floor(steps) == steps).all() and span * (owner.max() + 1) < _LARGEST:
        return np.argsort(owner * int(span) + steps.astype(np.int64))
    return np.lexsort((age, owner))


def _same_time(ordered: _Ordered) -> NDArray[np.bool_]:
    """Whether each row but the first has the owner and the age of the one before it."""
    owner, age = ordered.owner, ordered.age
    same = np.asarray(owner[1:] == owner[:-1])
    return same if age is None else same & np.asarray(age[1:] == age[:-1])


def _either(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each row is like the one before it, or like the one after it."""
    return np.asarray(np.concatenate([[False], same]) | np.concatenate([same, [False]]), dtype=np.bool_)


def _by_content(
    group: NDArray[np.intp], contents: Iterable[Callable[[_Places], NDArray[np.int64]]]
) -> tuple[_Places, _Places]:
    """The order of rows by group, then by content; and the places in it of rows like the one before.

    Column by column only what is still tied is looked at: mostly one or two columns tell rows apart.
    """
    sequence = np.arange(len(group))
    tied = sequence.copy()
    for content in contents:
        if not len(tied):
            break
        values = content(sequence.take(tied))
        by = np.lexsort((values, group))
        values, sequence[tied] = values.take(by), sequence.take(tied.take(by))
        same = (values[1:] == values[:-1]) & (group[1:] == group[:-1])
        kept = np.flatnonzero(_either(same))
        tied, group = tied.take(kept), np.cumsum(np.append(True, ~same)).take(kept)
    return sequence, tied[1:][group[1:] == group[:-1]]


def _content(column: NDArray[Any], rows: _Places, some: _Places) -> NDArray[np.int64]:
    """Whole numbers of some rows, equal where the values are equal or both missing."""
    values = column[rows.take(some)]
    if values.dtype == object:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    if values.dtype != np.float64:
        return values.astype(np.int64)
    return np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)


def _blocks(owner: NDArray[Any]) -> Iterator[tuple[slice, _Places]]:
    """Neighbouring rows of whole owners, and in each block where its owners start."""
    if not len(owner):
        return
    starts = np.append(0, np.flatnonzero(owner[1:] != owner[:-1]) + 1)
    if len(owner) <= _BLOCK:
        yield slice(0, len(owner)), starts
        return
    firsts = np.unique(np.searchsorted(starts, np.arange(0, len(owner), _BLOCK)))
    for first, last in zip(firsts, np.append(firsts[1:], len(starts)), strict=True):
        some = starts[first:last]
        if len(some):
            stop = starts[last] if last < len(starts) else len(owner)
            yield slice(int(some[0]), int(stop)), some - some[0]
