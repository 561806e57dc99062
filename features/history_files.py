"""Readers of the files of histories, each of which is read batch by batch and once. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.errors import ColumnsError, FileError, SchemaError
from features.files import CsvLayout, Table, open_table, refuse_columns_absent
from features.histories import Histories, History
from features.portfolio import Portfolio
from features.rollups import HistoryRows, places_among, roll_up_parts
from features.schema import Column, ColumnKind
from features.transformer import LevelCodes
from features.validation import bounds_rule, is_fractional
from features.values import as_client_ids, as_days, as_level_codes, as_numbers, as_whole_numbers
from jobs.commandline import Advance, Progress

_BATCH = 1 << 20
SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".parquet")
_AT_ONCE = 5 << 29
"""Bytes of a table that are held at once; of a larger one the clients are read in several passes."""
# Bytes in memory of a byte in a CSV file of Home Credit's histories: measured, 2.7 at most, and 28 if it is packed.
_GROWTH, _GROWTH_PACKED = 3, 30


def roll_up_folder(
    data: Path,
    portfolio: Portfolio,
    clients: NDArray[Any],
    days: NDArray[np.float64] | None = None,
    *,
    progress: Progress,
) -> NDArray[np.float64]:
    """The roll-ups of clients from the files of a folder, shape (n, n_rollups), as `roll_up` gives them.

    Those of a table whose file is absent are missing, and so are those of the table that it hangs on. FileError if no
    file is there, or if one cannot be read; ColumnsError if it lacks a declared column, or if values break
    their declaration; SchemaError if the portfolio declares no histories.
    """
    folder = HistoryFolder.open(data, portfolio)
    if not folder.tables:
        raise FileError(f"{data}: no file of histories: {', '.join(one.file for one in folder.histories.tables)}")

    def rows_of(history: History, names: NDArray[Any]) -> Iterator[HistoryRows]:
        table = folder.tables.get(history.name)
        if table is None:
            return
        for some in _passes(table, history, names):
            with progress.step(history.name, sum(table.groups) or None) as advance:
                rows = folder.read(history, some, advance)
            yield rows

    found = roll_up_parts(folder.histories, rows_of, clients, days)
    unknown = [folder.lacks(column.history) for column in folder.histories.columns]
    found[:, unknown] = np.nan
    return found


@dataclass(frozen=True, slots=True)
class HistoryFolder:
    """The files of a portfolio's histories, whose headers have been read.

    Attributes
    ----------
    tables : the files by the names of the histories; some may be absent
    """

    histories: Histories
    tables: Mapping[str, Table]

    @classmethod
    def open(cls, data: Path, portfolio: Portfolio) -> Self:
        """The files in a folder; FileError if one is unreadable, ColumnsError if it lacks a column."""
        histories = portfolio.histories
        if histories is None:
            raise SchemaError(f"{portfolio.name}: the portfolio declares no histories")
        layout = CsvLayout.of(portfolio)
        opened = {one.name: _opened(data, one, layout) for one in histories.tables}
        return cls(histories, {name: table for name, table in opened.items() if table is not None})

    @property
    def absent(self) -> list[str]:
        """The histories without a file."""
        return [one.name for one in self.histories.tables if one.name not in self.tables]

    def lacks(self, name: str) -> bool:
        """Whether the file of a history is absent, or that of one that hangs on it."""
        return name not in self.tables or any(self.lacks(one.name) for one in self.histories.children(name))

    def clients(self) -> NDArray[Any]:
        """The clients who have a row in some table, each once, in their order."""
        whole = self.histories.whole_keys
        held = [
            names_in(self.tables[history.name], history.key, whole=whole)
            for history in self.histories.of_clients
            if history.name in self.tables
        ]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64 if whole else np.object_), *held]))

    def read(self, history: History, names: NDArray[Any], advance: Advance = lambda _=1: None) -> HistoryRows:
        """The rows of a table whose keys are among the names; ColumnsError if some value breaks its declaration."""
        table, whole = self.tables[history.name], self.histories.whole_keys
        reader = _Reader(history, table, _names(names, whole=whole), whole=whole)
        for block in table.blocks(list(dict.fromkeys(_columns(history))), _BATCH):
            reader.add(block)
            advance(block.num_rows)
        return reader.rows()


def names_in(table: Table, column: str, *, whole: bool) -> NDArray[Any]:
    """The names in a column of a file, each once in a batch of it: int64, or object of str."""
    found = [np.empty(0, dtype=np.int64 if whole else np.object_)]
    for block in table.blocks([column], _BATCH):
        if whole:
            found.append(np.unique(as_whole_numbers(block[column])[0]))
        else:
            texts = as_client_ids(block[column])[0].unique().drop_null()
            found.append(np.array(texts.to_pylist(), dtype=object))
    return np.concatenate(found)


def _opened(data: Path, history: History, layout: CsvLayout) -> Table | None:
    """The file of a history; None if it is absent."""
    found = [path for suffix in SUFFIXES if (path := data / f"{history.file}{suffix}").exists()]
    if not found:
        return None
    if len(found) > 1:
        raise FileError(f"{data}: both {' and '.join(path.name for path in found)}")
    levels = frozenset(level for column in history.stated for level in column.levels)
    table = open_table(found[0], known=_columns(history), layout=replace(layout, levels=levels))
    refuse_columns_absent(table.stored.name, table.header, _columns(history))
    return table


def _columns(history: History) -> list[str]:
    """The columns to read."""
    return [history.key, *([] if history.id is None else [history.id]), *(column.name for column in history.stated)]


def _names(names: NDArray[Any], *, whole: bool) -> NDArray[np.int64] | pa.Array[Any]:
    return np.sort(names) if whole else pa.array(names.tolist(), pa.string()).unique()


def _passes(table: Table, history: History, names: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The names whose rows are read together: all of them, unless the table is too large."""
    width = 8 * (len(history.stated) + 2)
    growth = _GROWTH if table.stored.packing is None else _GROWTH_PACKED
    size = width * sum(table.groups) if table.groups else growth * table.stored.size
    passes = min(-(-size // _AT_ONCE), len(names))
    distinct = np.array(sorted(set(names.tolist())), dtype=names.dtype) if passes > 1 else names
    yield from np.array_split(distinct, passes) if passes > 1 else (names,)


class _Reader:
    """Turns blocks of a file into the rows of some names, and counts the values that break their declaration."""

    def __init__(
        self, history: History, table: Table, names: NDArray[np.int64] | pa.Array[Any], *, whole: bool
    ) -> None:
        self._history, self._table, self._names, self._whole = history, table, names, whole
        self._codes = {column.name: LevelCodes(column, column.levels) for column in history.stated if column.levels}
        self._broken: dict[tuple[str, str], int] = {}
        # Memory that is not written to costs nothing; a list of parts would be in memory twice at the end.
        room, kind = sum(table.groups) or _BATCH, np.int64 if whole else np.object_
        self._values, self._keys = np.empty((len(history.stated), room)), np.empty(room, dtype=kind)
        self._ids = None if history.id is None else np.empty(room, dtype=kind)
        self._filled = 0

    def add(self, block: pa.Table) -> None:
        keys = self._named(block, self._history.key)
        ids = None if self._history.id is None else self._named(block, self._history.id)
        chosen = self._chosen(keys)
        first, last = self._filled, self._filled + (len(keys) if chosen is None else len(chosen))
        self._make_room(last)
        self._keys[first:last] = _taken(keys, chosen)
        if self._ids is not None and ids is not None:
            self._ids[first:last] = _taken(ids, chosen)
        for row, column in zip(self._values, self._history.stated, strict=True):
            values = self._read(block[column.name], column)
            row[first:last] = values if chosen is None else values.take(chosen)
        self._filled = last

    def _make_room(self, rows: int) -> None:
        if rows > len(self._keys):
            more = max(rows, 2 * len(self._keys))
            self._values, self._keys = _enlarged(self._values, more), _enlarged(self._keys, more)
            self._ids = None if self._ids is None else _enlarged(self._ids, more)

    def rows(self) -> HistoryRows:
        """All rows; ColumnsError if values break their declaration."""
        if self._broken:
            told = ", ".join(
                f"{column} {rule} ({count} row{'s' if count > 1 else ''})"
                for (column, rule), count in self._broken.items()
            )
            raise ColumnsError(f"{self._table.stored}: {told}")
        rows = slice(0, self._filled)
        return HistoryRows(self._values[:, rows], self._keys[rows], None if self._ids is None else self._ids[rows])

    def _named(self, block: pa.Table, name: str) -> NDArray[np.int64] | pa.Array[Any]:
        """Names of rows or owners, as whole numbers or as Arrow's texts."""
        if self._whole:
            numbers, missing, wrong = as_whole_numbers(block[name])
            self._count(name, "must be a whole number", wrong | missing)
            return numbers
        texts, wrong = as_client_ids(block[name])
        self._count(name, "must be a text or a whole number", wrong | texts.is_null().to_numpy())
        return texts.combine_chunks()

    def _chosen(self, keys: NDArray[np.int64] | pa.Array[Any]) -> NDArray[np.intp] | None:
        """The rows of the wanted names; None for all."""
        if isinstance(keys, np.ndarray):
            mine = places_among(keys, self._names) >= 0 if len(self._names) else np.zeros(len(keys), dtype=np.bool_)
        else:
            mine = pc.is_in(keys, value_set=self._names).to_numpy(zero_copy_only=False)
        return None if mine.all() else np.flatnonzero(mine)

    def _read(self, values: pa.ChunkedArray[Any], column: Column) -> NDArray[np.float64]:
        """The values of a column as the engine takes them."""
        if not column.numeric:
            found, wrong = as_level_codes(values, column, self._codes[column.name])
            self._count(column.name, "must be a text", wrong)
            if column.required:
                self._count(column.name, "is required", np.isnan(found) & ~wrong)
            return found
        if column.kind is ColumnKind.DATE:
            found, wrong = as_days(values)
        else:
            found, wrong = as_numbers(values, column.kind, decimal=self._table.layout.decimal)
        self._count(column.name, "must be a date" if column.kind is ColumnKind.DATE else "must be a number", wrong)
        self._check(found, wrong, column)
        return found

    def _check(self, found: NDArray[np.float64], wrong: NDArray[np.bool_], column: Column) -> None:
        known = found
        for code in column.missing:
            known = np.where(known == code, np.nan, known)
        infinite = np.isinf(known)
        self._count(column.name, "must be finite", infinite)
        if column.required:
            self._count(column.name, "is required", np.isnan(known) & ~wrong)
        if column.whole:
            self._count(column.name, "must be a whole number", is_fractional(known))
        self._count(column.name, bounds_rule(column), ((known < column.low) | (known > column.high)) & ~infinite)

    def _count(self, column: str, rule: str, broken: NDArray[np.bool_]) -> None:
        """Add the rows that break a rule of a column."""
        if count := int(np.count_nonzero(broken)):
            self._broken[column, rule] = self._broken.get((column, rule), 0) + count


def _enlarged(held: NDArray[Any], rows: int) -> NDArray[Any]:
    """The values along the last axis, and room for more."""
    larger = np.empty((*held.shape[:-1], rows), dtype=held.dtype)
    larger[..., : held.shape[-1]] = held
    return larger


def _taken(names: NDArray[np.int64] | pa.Array[Any], chosen: NDArray[np.intp] | None) -> NDArray[Any]:
    if isinstance(names, np.ndarray):
        return names if chosen is None else names.take(chosen)
    # Rows of one name share one text.
    encoded = (names if chosen is None else names.take(pa.array(chosen))).dictionary_encode()
    texts = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return np.asarray(texts.take(encoded.indices.fill_null(-1).to_numpy()))
