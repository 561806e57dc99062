"""Readers of CSV and Parquet files of applications, in batches checked against the declaration. Needs pyarrow.

A file of a partitioned dataset has the columns that its folders name too, such as `month=2026-11`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from features.diagnosis import is_damage, not_utf8, refuse_unreadable, uneven_rows, unread
from features.errors import ColumnsError, FileError
from features.portfolio import Portfolio
from features.schema import MISSING_WORDS, Column, ColumnKind, Schema
from features.storage import AccessFailures, StoredFile
from features.transformer import Columns, DistinctLevels
from features.validation import RuleViolation, find_violations
from features.values import as_days, as_levels, as_numbers, stored_as

_SPELLINGS = {form(word) for word in MISSING_WORDS for form in (str, str.upper, str.capitalize)}

_NULLS = _SPELLINGS | {"NaN", "-NaN", "NaT"}
"""Words for missing in their usual case, which Arrow's CSV reader finds fastest; `values` knows every other form."""


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How CSV files are written. `levels` are texts that never mean missing, though they look like it elsewhere."""

    separator: str = ","
    decimal: str = "."
    levels: frozenset[str] = frozenset()

    @classmethod
    def of(cls, portfolio: Portfolio) -> Self:
        """The layout of a portfolio's files."""
        files = portfolio.declared.files
        levels = frozenset(level for column in portfolio.schema for level in column.levels)
        return cls(files.separator, files.decimal, levels)


_PLAIN = CsvLayout()
_NULL = pa.null()
_NUMBERS = frozenset(
    {
        pa.float32(),
        pa.float64(),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32()),
    }
)

_CSV_BLOCK_BYTES = 8 << 20
_BUFFERED_BYTES = 1 << 20
"""Bytes of a column of a Parquet file that are read at a time."""
# What one request for a Parquet file in an object store gets.
_FOOTER_BYTES, _COLUMN_BYTES = 1 << 16, 8 << 20
_LISTED = 8
_ROWS_PER_CHUNK = 100_000


Partition = tuple[tuple[str, str | None], ...]
"""The columns that the folders of a file name, and the one value of each; None is missing."""


def open_file(path: Path | StoredFile, portfolio: Portfolio, *, partition: Partition = ()) -> File:
    """The file of a portfolio's applications at `path` (.csv, .csv.gz, .csv.zst or .parquet).

    FileError if it cannot be read; ColumnsError if a declared column is absent.
    """
    schema = portfolio.schema
    known = {*schema.beside, *(column.name for column in schema)}
    table = open_table(path, known=known, layout=CsvLayout.of(portfolio), partition=partition)
    refuse_absent(table.stored.name, table.header, portfolio)
    return File(table.stored, table.fields, table.groups, table.layout, table.partition, portfolio)


def refuse_absent(where: str, names: Sequence[str], portfolio: Portfolio) -> None:
    """ColumnsError that begins with `where` if a declared column is not among the names."""
    refuse_columns_absent(where, names, [column.name for column in portfolio.schema.stated])


def refuse_columns_absent(where: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    """ColumnsError that begins with `where` if a wanted column is not among the names."""
    absent = [name for name in wanted if name not in names]
    if absent:
        raise ColumnsError(f"{where}: column missing: {_listed(absent)}{_misspelt_hint(absent, names)}")


def read_from(names: Container[str], portfolio: Portfolio) -> list[str]:
    """The declared columns that are read from a table with these columns: of the roll-ups, those that it has."""
    return [column.name for column in portfolio.schema if not column.history or column.name in names]


def open_table(
    path: Path | StoredFile, *, known: Container[str], layout: CsvLayout = _PLAIN, partition: Partition = ()
) -> Table:
    """The file at `path`, if its header has at least one `known` name.

    FileError if it cannot be read; ColumnsError if a column is repeated or none is known.
    """

    stored = StoredFile.at(path) if isinstance(path, Path) else path
    fields, groups = _header(stored, layout)
    names = fields.names
    # Without a known name the first line may be an applicant's: the message must not quote it.
    if not any(name in known for name in names):
        raise ColumnsError(f"{stored}: it has none of the expected columns: does its first line name the columns?")
    refuse_repeated(stored.name, names)
    return Table(stored, fields, groups, layout, tuple(one for one in partition if one[0] not in names))


def refuse_repeated(where: str, names: Sequence[str]) -> None:
    """ColumnsError that begins with `where` if a name is repeated."""
    repeated = sorted({name or "(no name)" for name in names if names.count(name) > 1})
    if repeated:
        raise ColumnsError(f"{where}: column repeated: {_listed(repeated)}")


def read_table(
    table: pa.Table, portfolio: Portfolio, *, first_row: int = 0, others: Sequence[str] = (), decimal: str = "."
) -> RowBatch:
    """The batch of an Arrow table, checked against the declaration; a roll-up that it lacks is missing in every row."""
    schema, names = portfolio.schema, set(table.column_names)
    # Each column lies together, as it comes from Arrow and as the transformer reads it.
    numbers = np.full((len(schema.numeric), table.num_rows), np.nan).T
    levels = np.empty((len(schema.categorical), table.num_rows), dtype=object).T
    absent = DistinctLevels([None], np.zeros(table.num_rows, dtype=np.intp))
    distinct, violations = [absent] * len(schema.categorical), list[RuleViolation]()
    for column in schema:
        if column.history and column.name not in names:
            continue
        stored, position = table[column.name], schema.position[column.name]
        # Small tables have few rows to pay for the calls: nothing is to be read here, or nothing to be judged.
        if stored.type == _NULL:
            continue
        if column.numeric and column.kind is not ColumnKind.DATE and stored.type in _NUMBERS:
            numbers[:, position] = stored.to_numpy()
            continue
        if column.kind is ColumnKind.DATE:
            numbers[:, position], wrong = as_days(stored)
        elif column.numeric:
            numbers[:, position], wrong = as_numbers(stored, column.kind, decimal=decimal)
        else:
            distinct[position], wrong = as_levels(stored, column)
            levels[:, position] = np.array(distinct[position].levels, dtype=object).take(distinct[position].places)
        violations.extend(_type_violation(column, stored, wrong))
    columns = Columns.as_read(numbers, levels, portfolio, distinct)
    violations.extend(_without_unreadable(find_violations(columns), violations))
    return RowBatch(first_row, columns, {name: table[name] for name in others}, violations)


@dataclass(frozen=True, slots=True)
class Table:
    """A readable file with its header.

    Attributes
    ----------
    fields : the columns in the file and their types; those of a CSV file are text
    groups : the rows of each row group of a Parquet file; none for a CSV file
    partition : columns that its folders name, and that are not in the file
    """

    stored: StoredFile
    fields: pa.Schema
    groups: tuple[int, ...]
    layout: CsvLayout
    partition: Partition

    @property
    def path(self) -> Path:
        """The path of a file of this machine, as it was given."""
        return Path(self.stored.name)

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns, those of its folders last."""
        return (*self.fields.names, *(name for name, _ in self.partition))

    def type_of(self, name: str) -> pa.DataType:
        """The stored type of a column; that of a column of CSV files and folders is text."""
        return self.fields.field(name).type if name in self.fields.names else pa.string()

    def blocks(self, columns: Sequence[str], rows: int, *, groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """The chosen columns in Arrow tables of at most `rows` rows; every column of a CSV file is text.

        `groups` are the row groups of a Parquet file to read, all unless given. FileError if the file turns out to be
        damaged on the way; ColumnsError if it lacks a column.
        """

        absent = [name for name in columns if name not in self.header]
        if absent:
            raise ColumnsError(f"{self.stored}: column missing: {_listed(absent)}")
        of_folders = {name: value for name, value in self.partition if name in columns}
        inside = [name for name in columns if name not in of_folders]
        # Without a column Arrow does not tell how many rows there are.
        for table in _tables(self.stored, inside or self.fields.names[:1], rows, self.layout, groups):
            held = {name: table[name] for name in inside}
            held |= {name: _repeated(value, table.num_rows) for name, value in of_folders.items()}
            yield pa.table({name: held[name] for name in columns}) if of_folders else table.select(columns)

    def column(self, name: str) -> pa.ChunkedArray[Any]:
        """One column of the whole file; ColumnsError if it is not in the header."""

        chunks = [table[name].combine_chunks() for table in self.blocks([name], _ROWS_PER_CHUNK)]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.string())


@dataclass(frozen=True, slots=True)
class File(Table):
    """A readable file whose header has every declared column of the application."""

    portfolio: Portfolio

    @property
    def schema(self) -> Schema:
        """The declaration of the columns."""
        return self.portfolio.schema

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Columns of the file that are not declared; they are ignored unless the caller asks for them."""
        return tuple(name for name in self.header if name not in self.schema)

    def batches(
        self, rows: int, *, others: Sequence[str] = (), groups: Sequence[int] | None = None, first_row: int = 0
    ) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`; those of the row groups `groups` begin at `first_row` of the file.

        FileError if the file turns out to be damaged on the way; ColumnsError for a column of `others` that it does not
        have, or batches of no rows.
        """
        if rows < 1:
            raise ColumnsError(f"a batch has at least 1 row, not {rows}")
        wanted = list(dict.fromkeys([*read_from(self.header, self.portfolio), *others]))
        for table in self.blocks(wanted, rows, groups=groups):
            yield read_table(table, self.portfolio, first_row=first_row, others=others, decimal=self.layout.decimal)
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
        schema = self.columns.schema
        found = {schema.numeric[i].name for i in numbers}
        for i, column in enumerate(schema.categorical):
            if any(level is not None for level in self.columns.levels[:, i]):
                found.add(column.name)
        return frozenset(found | {violation.column for violation in self.violations})


def _type_violation(column: Column, stored: pa.ChunkedArray[Any], wrong: NDArray[np.bool_]) -> Iterator[RuleViolation]:
    if wrong.any():
        kind = stored_as(stored)
        wanted = "date, as in 2026-01-31" if column.kind is ColumnKind.DATE else "number" if column.numeric else "text"
        rule = f"must be a {wanted}{f', but is stored as {kind}' if kind else ''}"
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


def _repeated(value: str | None, rows: int) -> pa.Array[Any]:
    codes = pa.array(np.zeros(rows, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string()))


def _header(file: StoredFile, layout: CsvLayout) -> tuple[pa.Schema, tuple[int, ...]]:
    """The columns of the file and the rows of its row groups; FileError if it cannot be read."""
    kind = refuse_unreadable(file, layout.separator)
    with _reading(file, layout):
        if kind == "csv":
            with file.for_arrow() as opened:
                return pa.schema([(name, pa.string()) for name in csv_reader(opened, [], layout).schema.names]), ()
        with _parquet(file, ahead=_FOOTER_BYTES) as opened:
            metadata = opened.metadata
            groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
            return opened.schema_arrow, groups


def _tables(
    file: StoredFile, columns: Sequence[str], rows: int, layout: CsvLayout, groups: Sequence[int] | None
) -> Iterator[pa.Table]:
    """The chosen columns in tables of at most `rows` rows. Every CSV column is text."""
    with _reading(file, layout):
        if file.suffix == ".parquet":
            with _parquet(file) as opened:
                for batch in opened.iter_batches(batch_size=rows, columns=list(columns), row_groups=groups):
                    yield pa.Table.from_batches([batch])
        else:
            with file.for_arrow() as opened:
                yield from _rebatched(csv_reader(opened, columns, layout), rows)


def _parquet(file: StoredFile, *, ahead: int = _COLUMN_BYTES) -> parquet.ParquetFile:
    # By default Arrow holds all row groups that are asked for. A request to an object store gets a column of one.
    if file.origin is not None:
        return parquet.ParquetFile(file.open(ahead=ahead), pre_buffer=False)
    return parquet.ParquetFile(file.place, pre_buffer=False, buffer_size=_BUFFERED_BYTES)


def csv_reader(source: IO[bytes], columns: Sequence[str], layout: CsvLayout) -> csv.CSVStreamingReader:
    """The reader of a CSV file's chosen columns as text."""
    return csv.open_csv(
        source,
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        # Without this a block may be cut inside a quoted cell that holds a line break.
        parse_options=csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=list(columns),
            # Arrow fixes a type by the first block: 007 would become 7, and a later text an error.
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=sorted(_NULLS - layout.levels),  # a declared level never means missing
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
def _reading(file: StoredFile, layout: CsvLayout) -> Iterator[None]:
    """Turn Arrow's errors, and those of storage, into a FileError of one line."""
    with AccessFailures(file.name) if file.origin else nullcontext():
        try:
            yield
        # Arrow quotes the row that it cannot read, and no log may hold an applicant's value.
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise FileError(f"{file}: {_reason(file, error, layout.separator)}") from None
        except OSError as error:
            if file.origin and not is_damage(error):
                raise
            raise FileError(f"{file}: {unread(error)}") from None


def _reason(file: StoredFile, error: Exception, separator: str) -> str:
    if file.suffix == ".csv":
        if "Empty CSV file" in str(error):
            return "is empty"
        fault = not_utf8(file) or uneven_rows(file, separator)
        if fault is not None:
            return fault
    if isinstance(error, pa.ArrowNotImplementedError):
        return "is written in a form of its format that is not read here"
    return "is damaged or not in the format of its suffix"
