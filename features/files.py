"""CSV and Parquet files of applications, read in batches and held against the declaration."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .application import APPLICATION
from .column import Column
from .columns import Columns
from .errors import ColumnsError
from .values import as_levels, as_numbers, stored_as
from .violations import Violation, find_violations

if TYPE_CHECKING:
    import pyarrow as pa

_LISTED = 8
_ROWS_PER_CHUNK = 100_000
_KNOWN = {APPLICATION.id_column, APPLICATION.target_column, *(column.name for column in APPLICATION)}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some consecutive rows of a file.

    Attributes
    ----------
    first_row : position of the first row in the file, counted from 0
    columns : the application columns; what could not be read as its kind is missing there and a violation
    others : the other columns that were asked for (identifier, outcome), as Arrow arrays
    violations : broken rules, rows counted from the start of the batch
    """

    first_row: int
    columns: Columns
    others: dict[str, pa.ChunkedArray[Any]]
    violations: list[Violation]

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, slots=True)
class Table:
    """A readable file with the names in its header."""

    path: Path
    header: tuple[str, ...]

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The chosen columns in Arrow tables of at most `rows` rows; every column of a CSV file is text.

        FileError if the file turns out to be damaged on the way; ColumnsError if it lacks a column.
        """
        from .tables import tables

        absent = [name for name in columns if name not in self.header]
        if absent:
            raise ColumnsError(f"{self.path}: column missing: {_listed(absent)}")
        yield from tables(self.path, columns, rows)

    def column(self, name: str) -> pa.ChunkedArray[Any]:
        """One column of the whole file; ColumnsError if it is not in the header."""
        import pyarrow as pa

        chunks = [table[name].combine_chunks() for table in self.blocks([name], _ROWS_PER_CHUNK)]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.string())


@dataclass(frozen=True, slots=True)
class File(Table):
    """A readable file whose header has every declared column."""

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Columns of the file that the declaration does not know; they are ignored unless asked for."""
        return tuple(name for name in self.header if name not in APPLICATION)

    def batches(self, rows: int, *, others: Sequence[str] = ()) -> Iterator[Batch]:
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


def open_table(path: Path, *, known: Container[str]) -> Table:
    """The .csv or .parquet file at `path`, whose header has a name that is `known`.

    FileError if it cannot be read; ColumnsError if a column is repeated, or none is known: the first line may then be
    an applicant's.
    """
    from .tables import header

    names = tuple(header(path))
    if not any(name in known for name in names):
        raise ColumnsError(f"{path}: no column that is looked for is in it: does its first line name the columns?")
    repeated = sorted({name or "(no name)" for name in names if names.count(name) > 1})
    if repeated:
        raise ColumnsError(f"{path}: column repeated: {_listed(repeated)}")
    return Table(path, names)


def open_file(path: Path) -> File:
    """The file of applications at `path` (.csv or .parquet).

    FileError if it cannot be read; ColumnsError if a declared column is absent.
    """
    names = open_table(path, known=_KNOWN).header
    absent = [column.name for column in APPLICATION if column.name not in names]
    if absent:
        raise ColumnsError(f"{path}: column missing: {_listed(absent)}{_nearly(absent, names)}")
    return File(path, names)


def _nearly(absent: Sequence[str], names: Sequence[str]) -> str:
    """The absent names that the header has in another case or with blanks around them."""
    loose = {name.strip().casefold() for name in names}
    near = [name for name in absent if name.casefold() in loose]
    return f"; in another case, or with blanks around the name, it has {_listed(near)}" if near else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def read_table(table: pa.Table, *, first_row: int = 0, others: Sequence[str] = ()) -> Batch:
    """An Arrow table with every declared column as a batch, held against the declaration."""
    numbers = np.empty((table.num_rows, len(APPLICATION.numeric)))
    levels = np.empty((table.num_rows, len(APPLICATION.categorical)), dtype=object)
    violations: list[Violation] = []
    for column in APPLICATION:
        stored, position = table[column.name], APPLICATION.position[column.name]
        if column.numeric:
            numbers[:, position], wrong = as_numbers(stored, column.kind)
        else:
            levels[:, position], wrong = as_levels(stored, column)
        violations.extend(_type_violation(column, stored, wrong))
    columns = Columns(numbers, levels)
    violations.extend(_unless_unreadable(find_violations(columns), violations))
    return Batch(first_row, columns, {name: table[name] for name in others}, violations)


def _type_violation(column: Column, stored: pa.ChunkedArray[Any], wrong: NDArray[np.bool_]) -> Iterator[Violation]:
    if wrong.any():
        kind = stored_as(stored)
        rule = f"must be a {'number' if column.numeric else 'text'}{f', but is stored as {kind}' if kind else ''}"
        yield Violation(column.name, rule, np.flatnonzero(wrong))


def _unless_unreadable(found: list[Violation], unreadable: list[Violation]) -> Iterator[Violation]:
    """A required value of the wrong type was stated: it is not missing as well."""
    rows = {violation.column: violation.rows for violation in unreadable}
    for violation in found:
        kept = np.setdiff1d(violation.rows, rows.get(violation.column, ()))
        if len(kept):
            yield Violation(violation.column, violation.rule, kept.astype(np.intp))
