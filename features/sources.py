"""Sources of a batch job's applications: a fixed list of parts, each of which is read on its own. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyarrow import types

from features.database import Database, QueryRange, is_database
from features.diagnosis import SUFFIXES
from features.errors import ColumnsError, FileError
from features.files import File, Partition, RowBatch, open_file, refuse_absent, refuse_repeated
from features.portfolio import Portfolio
from features.request import LONGEST_CLIENT_ID
from features.storage import FileListing, StoredFile, is_mark, list_files
from features.validation import RuleViolation
from features.values import as_client_ids, as_whole_numbers
from jobs.destination import without_secrets

CLIENT_ID = "client_id"
ROW = "row"
"""The column of decisions that numbers the rows, from 1, of applications without a name."""

PART_ROWS = 500_000
"""Rows that a part of a Parquet file has at most, unless one of its row groups has more."""

# Such a file may hold applications in a form that is not read: it is refused, since nobody would miss the rows.
_TABLES = frozenset({
    *SUFFIXES, ".tsv", ".tab", ".psv", ".dat", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".json", ".jsonl", ".ndjson",
    ".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db", ".sas7bdat", ".dta", ".sav", ".rds", ".pkl", ".pickle",
    ".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".tar", ".tgz",
})  # fmt: skip

# Tables whose log, and not their folder, says which files are current.
_FOREIGN = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_OPENED_AT_ONCE = 16


def open_source(
    address: str,
    portfolio: Portfolio,
    *,
    query: str | None = None,
    table: str | None = None,
    split_by: str | None = None,
    splits: int = 1,
    part_rows: int = PART_ROWS,
) -> ApplicationSource:
    """The applications of a portfolio at an address.

    That is a file, a folder, a pattern, one of those in an object store, or a database with a `query` or a `table`.
    A query is one part, or `splits` parts by ranges of the column `split_by`.

    Every header is read. FileError if one cannot be read; ColumnsError if a declared column is absent, if files differ
    in the kind of one, or if nothing names the applicants.
    """
    statement = query or table
    if is_database(address):
        if not statement or (query and table):
            raise FileError(f"{without_secrets(address)}: a database needs a query or a table")
        if splits < 1 or (splits > 1 and not split_by):
            raise FileError(f"{without_secrets(address)}: splits are 1 or more, and need a column to split by")
        selected = QueryRange(Database(address), statement, is_table=table is not None)
        return _queried(selected, portfolio, split_by, splits)
    if statement or split_by:
        raise FileError(f"{without_secrets(address)}: is no database, so that it has no query, table or splits")
    return _stored(list_files(address), portfolio, part_rows)


@dataclass(frozen=True, slots=True)
class ApplicationSource:
    """Where a batch job's applications come from: the same input has the same parts on every machine.

    Attributes
    ----------
    address : what was opened, without a password
    header : the columns that every part has
    types : the stored types of those that have one type everywhere
    passed_over : names that were found and not read
    ignored_columns : columns that are neither declared, nor an identifier, nor the outcome
    """

    address: str
    parts: tuple[SourcePart, ...]
    identifier: Identifier
    header: tuple[str, ...]
    types: Mapping[str, pa.DataType]
    passed_over: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """The rows of all parts; None if they are not known before they are read."""
        counts = [part.rows for part in self.parts if part.rows is not None]
        return sum(counts) if len(counts) == len(self.parts) else None


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Some rows of a source. Nothing of it is open, so that other processes and machines can be sent it.

    Attributes
    ----------
    rows : None if they are not known before they are read
    before : rows of the source before this file; 0 unless row numbers name the applicants
    """

    reads: FileRange | QueryRange
    rows: int | None = None
    before: int = 0

    @property
    def name(self) -> str:
        """The file or the database, as messages name it."""
        return self.reads.name

    @property
    def fingerprint(self) -> str:
        """What differs when something else is read."""
        return self.reads.fingerprint

    def batches(self, rows: int, portfolio: Portfolio, *, others: Sequence[str] = ()) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`, with the columns `others` as Arrow arrays.

        FileError if the part has changed or turns out to be damaged on the way; ColumnsError if it lacks a column.
        """
        return self.reads.batches(rows, portfolio, others=others)


@dataclass(frozen=True, slots=True)
class FileRange:
    """A file, or neighbouring row groups of a Parquet file.

    Attributes
    ----------
    groups : the row groups; None for all of a file
    partition : columns that the folders of the file name
    first_row : position of the first row in the file
    """

    file: StoredFile
    groups: tuple[int, ...] | None
    partition: Partition
    first_row: int

    @property
    def name(self) -> str:
        """The file, as messages name it."""
        return self.file.name

    @property
    def fingerprint(self) -> str:
        """What differs when the content has changed."""
        some = f", row groups {self.groups[0]} to {self.groups[-1]}" if self.groups else ""
        return f"{self.file}: {self.file.size} bytes, {self.file.mark}{some}"

    def batches(self, rows: int, portfolio: Portfolio, *, others: Sequence[str] = ()) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`; FileError if the file has changed."""
        if self.file.now() != self.file:
            raise FileError(f"{self.name}: has changed since the job was planned")
        file = open_file(self.file, portfolio, partition=self.partition)
        yield from file.batches(rows, others=others, groups=self.groups, first_row=self.first_row)


@dataclass(frozen=True, slots=True)
class Identifier:
    """What names the applicants: a column of all files, as whole numbers or as text, or the number of the row."""

    name: str
    whole: bool
    in_files: bool = True

    @classmethod
    def among(cls, headers: Mapping[str, Sequence[str]], portfolio: Portfolio) -> Self:
        """The column that identifies the applicants in every file; ColumnsError if the files share none.

        `headers` are the columns by the names of the files.
        """
        identity = portfolio.declared.identity
        names = [CLIENT_ID] if identity is None else [identity.column, CLIENT_ID]
        for name in names:
            if all(name in header for header in headers.values()):
                return cls(name, identity is not None and name == identity.column and identity.kind == "whole")
        nameless = next((file for file, header in headers.items() if not {*names} & {*header}), None)
        if nameless is None:
            raise ColumnsError(f"some files name the applicants by {' and others by '.join(names)}")
        if identity is None:
            if any(CLIENT_ID in header for header in headers.values()):
                raise ColumnsError(f"{nameless}: has no {CLIENT_ID}, as other files have")
            return cls(ROW, whole=True, in_files=False)
        raise ColumnsError(f"{nameless}: neither {' nor '.join(names)} names the applicants")

    @property
    def others(self) -> tuple[str, ...]:
        """The columns to read besides the declared ones."""
        return (self.name,) if self.in_files else ()

    def of(self, part: SourcePart, batch: RowBatch) -> pa.ChunkedArray[Any]:
        """The identifiers of a batch, null where one is missing; ColumnsError if one cannot be read."""
        if not self.in_files:
            first = part.before + batch.first_row + 1
            return pa.chunked_array([pa.array(np.arange(first, first + len(batch)))])
        values = batch.others[self.name]
        if self.whole:
            numbers, missing, wrong = as_whole_numbers(values)
            read, rule = pa.chunked_array([pa.array(numbers, mask=missing)]), "must be a whole number"
        else:
            read, wrong = as_client_ids(values)
            rule = f"must be a text of 1 to {LONGEST_CLIENT_ID} characters, or a whole number"
        if wrong.any():
            violation = RuleViolation(self.name, rule, np.flatnonzero(wrong)).shifted(batch.first_row)
            raise ColumnsError(f"{part.name}: {violation}")
        return read


def _stored(listing: FileListing, portfolio: Portfolio, part_rows: int) -> ApplicationSource:
    files, passed_over = _opened(listing, portfolio)
    _refuse_differences(files)
    identifier = Identifier.among({file.stored.name: file.header for file in files}, portfolio)
    header = tuple(name for name in files[0].header if all(name in file.header for file in files))
    stored = {name: {file.type_of(name) for file in files} for name in header}
    return ApplicationSource(
        address=listing.address,
        parts=tuple(_parts(files, part_rows, numbered=not identifier.in_files)),
        identifier=identifier,
        header=header,
        types={name: kinds.pop() for name, kinds in stored.items() if len(kinds) == 1},
        passed_over=passed_over,
        ignored_columns=_ignored({name for file in files for name in file.header}, portfolio),
    )


def _queried(selected: QueryRange, portfolio: Portfolio, split_by: str | None, splits: int) -> ApplicationSource:
    header, where = selected.header(), str(selected.database)
    refuse_repeated(where, header)
    refuse_absent(where, header, portfolio)
    identifier = Identifier.among({where: header}, portfolio)
    if not identifier.in_files:
        # The rows of a query have no order, so that their numbers would name others the next time.
        raise ColumnsError(f"{where}: has no {CLIENT_ID} to name the applicants")
    ranges = selected.split(split_by, splits) if split_by else (selected,)
    return ApplicationSource(
        address=where,
        parts=tuple(SourcePart(one) for one in ranges),
        identifier=identifier,
        header=header,
        types={},
        ignored_columns=_ignored({*header}, portfolio),
    )


def _ignored(names: Collection[str], portfolio: Portfolio) -> tuple[str, ...]:
    """The names that are neither declared, nor an identifier, nor the outcome."""
    schema = portfolio.schema
    return tuple(sorted(name for name in names if name not in schema and name not in {*schema.beside, CLIENT_ID}))


def _opened(listing: FileListing, portfolio: Portfolio) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """The files that hold applications, in the order of their names, and the names that are passed over."""
    if listing.alone:
        return (open_file(listing.find(listing.names[0]), portfolio),), ()
    marks = {mark for name in listing.names if (mark := _marked(name))}
    for name in sorted(marks):
        if PurePosixPath(name).name in _FOREIGN:
            what = _FOREIGN[PurePosixPath(name).name]
            raise FileError(f"{listing.address}: is {what}, whose files alone do not say which rows are current")
    # An empty folder ends with a slash.
    held = [name for name in listing.names if not _marked(name) and not name.endswith("/")]
    tables = [name for name in held if not _TABLES.isdisjoint(s.lower() for s in PurePosixPath(name).suffixes)]
    if not tables:
        raise FileError(f"{listing.address}: no .csv or .parquet file in it")

    def opened(name: str) -> File:
        return open_file(listing.find(name), portfolio, partition=_partition(name))

    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        files = tuple(pool.map(opened, tables))
    return files, tuple(sorted({*marks, *held} - {*tables}))


def _marked(name: str) -> str | None:
    """The name up to the first folder or file in it that is a mark; None if there is none."""
    parts = name.split("/")
    return next(("/".join(parts[: i + 1]) for i, part in enumerate(parts) if is_mark(part)), None)


def _partition(name: str) -> Partition:
    """The columns that the folders of a file name, in the way of Hive.

    >>> _partition("month=2026-11/region=__HIVE_DEFAULT_PARTITION__/a.parquet")
    (('month', '2026-11'), ('region', None))
    """
    pairs = dict(folder.split("=", 1) for folder in name.split("/")[:-1] if "=" in folder)
    return tuple((unquote(key), None if value == _NO_VALUE else unquote(value)) for key, value in pairs.items())


def _refuse_differences(files: Sequence[File]) -> None:
    """ColumnsError if Parquet files differ in the kind that a declared column is stored as."""
    first: dict[str, tuple[str, File]] = {}
    for file in files:
        for column in file.schema if file.groups else ():
            if column.name not in file.header:
                continue
            kind, (known, other) = _kind(file.type_of(column.name)), first.get(column.name, ("", file))
            if kind and known and kind != known and _holds_something(file, column.name):
                raise ColumnsError(
                    f"{file.stored}: {column.name} is stored as {kind}, but as {known} in {other.stored}"
                )
            if kind:
                first.setdefault(column.name, (kind, file))


def _holds_something(file: File, name: str) -> bool:
    # Some writers store a column without a value as numbers, whatever it holds elsewhere.
    return any(not all(table[name].is_null(nan_is_null=True).to_pylist()) for table in file.blocks([name], PART_ROWS))


def _kind(stored: pa.DataType) -> str:
    """The kind of a stored type; "" for one that holds nothing but null."""
    stored = stored.value_type if types.is_dictionary(stored) else stored
    if types.is_null(stored):
        return ""
    if types.is_integer(stored) or types.is_floating(stored) or types.is_decimal(stored):
        return "numbers"
    if types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored):
        return "text"
    return "dates" if types.is_date(stored) or types.is_timestamp(stored) else str(stored)


def _parts(files: Sequence[File], part_rows: int, *, numbered: bool) -> Iterator[SourcePart]:
    before = 0
    for file in files:
        first = 0
        for groups, rows in _cut(file, part_rows, counted=numbered and file is not files[-1]):
            some = FileRange(file.stored, groups, file.partition, first)
            yield SourcePart(some, rows, before if numbered else 0)
            first += rows or 0
        before += first


def _cut(file: File, part_rows: int, *, counted: bool) -> Iterator[tuple[tuple[int, ...] | None, int | None]]:
    """The row groups of a Parquet file in neighbours of at most `part_rows` rows, and their rows; a CSV file whole."""
    if file.stored.suffix == ".csv":
        # Where row numbers name the applicants, those of the next file count on from this one's.
        yield None, sum(table.num_rows for table in file.blocks(file.header[:1], part_rows)) if counted else None
        return
    held, rows = list[int](), 0
    for group, more in enumerate(file.groups):
        if held and rows + more > part_rows:
            yield tuple(held), rows
            held, rows = [], 0
        held.append(group)
        rows += more
    yield tuple(held), rows
