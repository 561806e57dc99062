"""CSV and Parquet files of applications, read in batches and held against the declaration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .application import APPLICATION
from .column import Column
from .columns import Columns
from .errors import ColumnsError, FileError
from .violations import Violation, find_violations

if TYPE_CHECKING:
    import pyarrow as pa

_LISTED = 8
_ROWS_PER_CHUNK = 100_000


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
class File:
    """A readable file whose header has every declared column."""

    path: Path
    header: tuple[str, ...]

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Columns of the file that the declaration does not know; they are ignored unless asked for."""
        return tuple(name for name in self.header if name not in APPLICATION)

    def batches(self, rows: int, *, others: Sequence[str] = ()) -> Iterator[Batch]:
        """The rows in batches of at most `rows`.

        FileError if the file turns out to be damaged on the way; ColumnsError for a column of `others` that it does not
        have, or batches of no rows.
        """
        from .tables import tables

        if rows < 1:
            raise ColumnsError(f"a batch has at least 1 row, not {rows}")
        absent = [name for name in others if name not in self.header]
        if absent:
            raise ColumnsError(f"{self.path}: column missing: {_listed(absent)}")
        first_row = 0
        wanted = [*(column.name for column in APPLICATION), *others]
        for table in tables(self.path, wanted, rows):
            yield read_table(table, first_row=first_row, others=others)
            first_row += table.num_rows

    def column(self, name: str) -> pa.ChunkedArray[Any]:
        """One column of the whole file; ColumnsError if it is not in the header."""
        import pyarrow as pa

        from .tables import tables

        if name not in self.header:
            raise ColumnsError(f"{self.path}: column missing: {name}")
        chunks = [table[name].combine_chunks() for table in tables(self.path, [name], _ROWS_PER_CHUNK)]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.string())


def open_file(path: Path) -> File:
    """The file at `path` (.csv or .parquet).

    FileError if it is missing, empty, damaged or of another format; ColumnsError if a declared column is absent.
    """
    from .tables import header

    if not path.is_file():
        raise FileError(f"{path}: no such file")
    names = tuple(header(path))
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ColumnsError(f"{path}: column repeated: {_listed(repeated)}")
    absent = [column.name for column in APPLICATION if column.name not in names]
    if absent:
        raise ColumnsError(f"{path}: column missing: {_listed(absent)}")
    return File(path, names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def read_table(table: pa.Table, *, first_row: int = 0, others: Sequence[str] = ()) -> Batch:
    """An Arrow table with every declared column as a batch, held against the declaration."""
    numbers = np.empty((table.num_rows, len(APPLICATION.numeric)))
    levels = np.empty((table.num_rows, len(APPLICATION.categorical)), dtype=object)
    violations: list[Violation] = []
    for column in APPLICATION:
        read, target = (as_numbers, numbers) if column.numeric else (_levels, levels)
        values, wrong = read(table[column.name])
        target[:, APPLICATION.position[column.name]] = values
        violations.extend(_type_violation(column, wrong))
    columns = Columns(numbers, levels)
    violations.extend(_unless_unreadable(find_violations(columns), violations))
    return Batch(first_row, columns, {name: table[name] for name in others}, violations)


def _type_violation(column: Column, wrong: NDArray[np.bool_]) -> Iterator[Violation]:
    if wrong.any():
        yield Violation(column.name, f"must be a {'number' if column.numeric else 'text'}", np.flatnonzero(wrong))


def _unless_unreadable(found: list[Violation], unreadable: list[Violation]) -> Iterator[Violation]:
    """A required value of the wrong type was stated: it is not missing as well."""
    rows = {violation.column: violation.rows for violation in unreadable}
    for violation in found:
        kept = np.setdiff1d(violation.rows, rows.get(violation.column, ()))
        if len(kept):
            yield Violation(violation.column, violation.rule, kept.astype(np.intp))


def as_numbers(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Arrow values as float64 with NaN for null, and where a value is no number."""
    import pyarrow as pa
    from pyarrow import types

    kind = values.type
    if types.is_string(kind):
        return _parsed(values)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
        return np.asarray(numbers, dtype=np.float64), np.zeros(len(values), dtype=np.bool_)
    return np.full(len(values), np.nan), _present(values)


def _parsed(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.ascii_trim_whitespace(values)
    try:
        numbers = np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        numbers = np.array([_number(text) for text in values])
    return numbers, np.isnan(numbers) & _present(values)


def _number(text: pa.StringScalar) -> float:
    import pyarrow as pa

    try:
        number = text.cast(pa.float64()).as_py()
    except pa.ArrowInvalid:
        return np.nan
    return np.nan if number is None else float(number)


def _levels(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Arrow values as str with None for null, and where a value is no text."""
    import pyarrow as pa
    from pyarrow import types

    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
        encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
        distinct = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
        codes = encoded.indices.fill_null(len(distinct) - 1).to_numpy()
        return distinct[codes], np.zeros(len(values), dtype=np.bool_)
    return np.full(len(values), None, dtype=object), _present(values)


def _present(values: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(values.is_valid().to_numpy(), dtype=np.bool_)
