"""Readers of CSV and Parquet files of applications, in batches checked against the declaration. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from features.application import APPLICATION
from features.diagnosis import not_utf8, refuse_unreadable, uneven_rows
from features.errors import ColumnsError, FileError
from features.schema import MISSING_WORDS, Column
from features.transformer import Columns
from features.validation import RuleViolation, find_violations
from features.values import as_levels, as_numbers, stored_as

_SPELLINGS = {form(word) for word in MISSING_WORDS for form in (str, str.upper, str.capitalize)}

# A declared level is never missing, not even one that is such a word elsewhere.
_NULLS = sorted((_SPELLINGS | {"NaN", "-NaN", "NaT"}) - {level for column in APPLICATION for level in column.levels})
"""Words for missing in their usual case, which Arrow's CSV reader finds fastest; `values` knows every other form."""

_CSV_BLOCK_BYTES = 8 << 20
_LISTED = 8
_ROWS_PER_CHUNK = 100_000
_KNOWN = {APPLICATION.id_column, APPLICATION.target_column, *(column.name for column in APPLICATION)}


def open_file(path: Path) -> File:
    """The file of applications at `path` (.csv or .parquet).

    FileError if it cannot be read; ColumnsError if a declared column is absent.
    """
    names = open_table(path, known=_KNOWN).header
    absent = [column.name for column in APPLICATION if column.name not in names]
    if absent:
        raise ColumnsError(f"{path}: column missing: {_listed(absent)}{_misspelt_hint(absent, names)}")
    return File(path, names)


def open_table(path: Path, *, known: Container[str]) -> Table:
    """The .csv or .parquet file at `path`, if its header has at least one `known` name.

    FileError if it cannot be read; ColumnsError if a column is repeated or none is known.
    """

    names = tuple(_header(path))
    # Without a known name the first line may be an applicant's: the message must not quote it.
    if not any(name in known for name in names):
        raise ColumnsError(f"{path}: it has none of the expected columns: does its first line name the columns?")
    repeated = sorted({name or "(no name)" for name in names if names.count(name) > 1})
    if repeated:
        raise ColumnsError(f"{path}: column repeated: {_listed(repeated)}")
    return Table(path, names)


def read_table(table: pa.Table, *, first_row: int = 0, others: Sequence[str] = ()) -> RowBatch:
    """The batch of an Arrow table that has every declared column, checked against the declaration."""
    numbers = np.empty((table.num_rows, len(APPLICATION.numeric)))
    levels = np.empty((table.num_rows, len(APPLICATION.categorical)), dtype=object)
    violations: list[RuleViolation] = []
    for column in APPLICATION:
        stored, position = table[column.name], APPLICATION.position[column.name]
        if column.numeric:
            numbers[:, position], wrong = as_numbers(stored, column.kind)
        else:
            levels[:, position], wrong = as_levels(stored, column)
        violations.extend(_type_violation(column, stored, wrong))
    columns = Columns(numbers, levels)
    violations.extend(_without_unreadable(find_violations(columns), violations))
    return RowBatch(first_row, columns, {name: table[name] for name in others}, violations)


@dataclass(frozen=True, slots=True)
class Table:
    """A readable file with the names in its header."""

    path: Path
    header: tuple[str, ...]

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The chosen columns in Arrow tables of at most `rows` rows; every column of a CSV file is text.

        FileError if the file turns out to be damaged on the way; ColumnsError if it lacks a column.
        """

        absent = [name for name in columns if name not in self.header]
        if absent:
            raise ColumnsError(f"{self.path}: column missing: {_listed(absent)}")
        yield from _tables(self.path, columns, rows)

    def column(self, name: str) -> pa.ChunkedArray[Any]:
        """One column of the whole file; ColumnsError if it is not in the header."""

        chunks = [table[name].combine_chunks() for table in self.blocks([name], _ROWS_PER_CHUNK)]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.string())


@dataclass(frozen=True, slots=True)
class File(Table):
    """A readable file whose header has every declared column."""

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Columns of the file that are not declared; they are ignored unless the caller asks for them."""
        return tuple(name for name in self.header if name not in APPLICATION)

    def batches(self, rows: int, *, others: Sequence[str] = ()) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`.

        FileError if the file turns out to be damaged on the way; ColumnsError for a column of `others` that it does not
        have, or batches of no rows.
        """
        if rows < 1:
            raise ColumnsError(f"a batch has at least 1 row, not {rows}")
        first_row = 0
        wanted = [*(column.name for column in APPLICATION), *others]
        for table in self.blocks(wanted, rows):
            yield read_table(table, first_row=first_row, others=others)
            first_row += table.num_rows


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Some consecutive rows of a file.

    Attributes
    ----------
    first_row : position of the first row in the file, counted from 0
    columns : the application columns; a value of the wrong type is missing there, and among the violations
    others : further columns that the caller asked for (identifier, outcome), as Arrow arrays
    violations : broken rules; their rows count from the start of the batch
    """

    first_row: int
    columns: Columns
    others: dict[str, pa.ChunkedArray[Any]]
    violations: list[RuleViolation]

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def stated(self) -> frozenset[str]:
        """The declared columns in which some row holds a value, be it a wrong one."""
        numbers = np.flatnonzero((~np.isnan(self.columns.numbers)).any(axis=0)).tolist()
        found = {APPLICATION.numeric[i].name for i in numbers}
        for i, column in enumerate(APPLICATION.categorical):
            if any(level is not None for level in self.columns.levels[:, i]):
                found.add(column.name)
        return frozenset(found | {violation.column for violation in self.violations})


def _type_violation(column: Column, stored: pa.ChunkedArray[Any], wrong: NDArray[np.bool_]) -> Iterator[RuleViolation]:
    if wrong.any():
        kind = stored_as(stored)
        rule = f"must be a {'number' if column.numeric else 'text'}{f', but is stored as {kind}' if kind else ''}"
        yield RuleViolation(column.name, rule, np.flatnonzero(wrong))


def _without_unreadable(found: list[RuleViolation], unreadable: list[RuleViolation]) -> Iterator[RuleViolation]:
    """The violations that were found, without those of values that could not even be read."""
    rows = {violation.column: violation.rows for violation in unreadable}
    for violation in found:
        kept = np.setdiff1d(violation.rows, rows.get(violation.column, ()))
        if len(kept):
            yield RuleViolation(violation.column, violation.rule, kept.astype(np.intp))


def _misspelt_hint(absent: Sequence[str], names: Sequence[str]) -> str:
    """A hint at absent names that the header has in another case or with blanks around them; "" without any."""
    loose = {name.strip().casefold() for name in names}
    near = [name for name in absent if name.casefold() in loose]
    return f"; in another case, or with blanks around the name, it has {_listed(near)}" if near else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _header(path: Path) -> list[str]:
    """The column names of the file; FileError if it is empty, damaged or neither CSV nor Parquet."""
    kind = refuse_unreadable(path)
    with _reading(path):
        if kind == "parquet":
            return list(parquet.read_schema(path).names)
        return list(_csv_reader(path, []).schema.names)


def _tables(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The chosen columns in tables of at most `rows` rows. Every CSV column is text."""
    with _reading(path):
        if path.suffix.lower() == ".parquet":
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        else:
            yield from _rebatched(_csv_reader(path, columns), rows)


def _csv_reader(path: Path, columns: Sequence[str]) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        # Without this a block may be cut inside a quoted cell that holds a line break.
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=list(columns),
            # Arrow fixes a type by the first block: 007 would become 7, and a later text an error.
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=_NULLS,
            strings_can_be_null=True,
        ),
    )


def _rebatched(reader: csv.CSVStreamingReader, rows: int) -> Iterator[pa.Table]:
    # Arrow cuts CSV by bytes; batches by rows are the same as those of a Parquet file.
    held = reader.schema.empty_table()
    for batch in reader:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held.num_rows:
        yield held


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn Arrow's errors into a FileError of one line."""
    try:
        yield
    # Arrow quotes the row that it cannot read, and no log may hold an applicant's value.
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {_reason(path, error)}") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({type(error).__name__})") from None


def _reason(path: Path, error: Exception) -> str:
    if path.suffix.lower() == ".csv":
        if "Empty CSV file" in str(error):
            return "is empty"
        fault = not_utf8(path) or uneven_rows(path)
        if fault is not None:
            return fault
    if isinstance(error, pa.ArrowNotImplementedError):
        return "is written in a form of its format that is not read here"
    return "is damaged or not in the format of its suffix"
