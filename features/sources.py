"""Sources of a batch job's applications: a fixed list of parts, each of which is read on its own. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from features.errors import ColumnsError, FileError
from features.files import File, RowBatch, open_file
from features.portfolio import Portfolio
from features.request import LONGEST_CLIENT_ID
from features.validation import RuleViolation
from features.values import as_client_ids, as_whole_numbers

CLIENT_ID = "client_id"
ROW = "row"
"""The column of decisions that numbers the rows, from 1, of applications without a name."""

PART_ROWS = 500_000
"""Rows that a part of a Parquet file has at most, unless one of its row groups has more."""

_SUFFIXES = (".csv", ".parquet")
# Hidden files, lock files of office programs, and marks such as Spark's _SUCCESS.
_MARKS = (".", "~$", "_")
# Such a file may hold applications in a form that is not read: it is refused, since nobody would miss the rows.
_TABLES = frozenset({
    *_SUFFIXES, ".tsv", ".tab", ".psv", ".dat", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".json", ".jsonl", ".ndjson",
    ".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db", ".sas7bdat", ".dta", ".sav", ".rds", ".pkl", ".pickle",
    ".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".tar", ".tgz",
})  # fmt: skip


def open_source(address: str, portfolio: Portfolio, *, part_rows: int = PART_ROWS) -> ApplicationSource:
    """The applications of a portfolio at an address: a file or a folder of files.

    Every header is read. FileError if one cannot be read; ColumnsError if a declared column is absent, or if nothing
    names the applicants.
    """
    files, passed_over = _files_at(Path(address), portfolio)
    identifier = Identifier.of_files(files, portfolio)
    known = {*portfolio.schema.beside, CLIENT_ID}
    return ApplicationSource(
        address=address,
        parts=tuple(_parts(files, part_rows, numbered=not identifier.in_files)),
        identifier=identifier,
        header=tuple(name for name in files[0].header if all(name in file.header for file in files)),
        passed_over=passed_over,
        ignored_columns=tuple(sorted({name for file in files for name in file.undeclared} - known)),
    )


@dataclass(frozen=True, slots=True)
class ApplicationSource:
    """Where a batch job's applications come from: the same input has the same parts on every machine.

    Attributes
    ----------
    address : what was opened, without a password
    header : the columns that every part has
    passed_over : names that were found and not read
    ignored_columns : columns that are neither declared, nor an identifier, nor the outcome
    """

    address: str
    parts: tuple[SourcePart, ...]
    identifier: Identifier
    header: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """The rows of all parts; None if they are not known before they are read."""
        counts = [part.rows for part in self.parts if part.rows is not None]
        return sum(counts) if len(counts) == len(self.parts) else None


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Some rows of a source. It holds no open file, so that other processes can be sent it.

    Attributes
    ----------
    name : the file, as messages name it
    fingerprint : differs when the content has changed
    rows : None if they are not known before they are read
    before : rows of the source before this file; 0 unless row numbers name the applicants
    first_row : position of the first row in its file
    """

    name: str
    fingerprint: str
    rows: int | None
    path: str
    groups: tuple[int, ...] | None = None
    before: int = 0
    first_row: int = 0

    def batches(self, rows: int, portfolio: Portfolio, *, others: Sequence[str] = ()) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`, with the columns `others` as Arrow arrays.

        FileError if the part has changed or turns out to be damaged on the way; ColumnsError if it lacks a column.
        """
        file = open_file(Path(self.path), portfolio)
        if _mark(file.path) not in self.fingerprint:
            raise FileError(f"{self.name}: has changed since the job was planned")
        yield from file.batches(rows, others=others, groups=self.groups, first_row=self.first_row)


@dataclass(frozen=True, slots=True)
class Identifier:
    """What names the applicants: a column of all files, as whole numbers or as text, or the number of the row."""

    name: str
    whole: bool
    in_files: bool = True

    @classmethod
    def of_files(cls, files: Sequence[File], portfolio: Portfolio) -> Self:
        """The column that identifies the applicants in every file; ColumnsError if the files share none."""
        identity = portfolio.declared.identity
        names = [CLIENT_ID] if identity is None else [identity.column, CLIENT_ID]
        for name in names:
            if all(name in file.header for file in files):
                return cls(name, identity is not None and name == identity.column and identity.kind == "whole")
        nameless = next((file for file in files if not {*names} & {*file.header}), None)
        if nameless is None:
            raise ColumnsError(f"some files name the applicants by {' and others by '.join(names)}")
        if identity is None:
            if any(CLIENT_ID in file.header for file in files):
                raise ColumnsError(f"{nameless.path}: has no {CLIENT_ID}, as other files have")
            return cls(ROW, whole=True, in_files=False)
        raise ColumnsError(f"{nameless.path}: neither {' nor '.join(names)} names the applicants")

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


def _files_at(path: Path, portfolio: Portfolio) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """The file, or every .csv and .parquet file of the folder, and the names that are passed over."""
    if not path.is_dir():
        return (open_file(path, portfolio),), ()
    names = sorted(one.name for one in path.iterdir())
    marks = [name for name in names if name.startswith(_MARKS)]
    held = [path / name for name in names if name not in marks]
    tables = [one for one in held if one.suffix.lower() in _SUFFIXES or _may_hold_applications(one)]
    if not tables:
        raise FileError(f"{path}: no .csv or .parquet file in it")
    others = [one.name for one in held if one not in tables]
    return tuple(open_file(one, portfolio) for one in tables), tuple(sorted([*marks, *others]))


def _may_hold_applications(path: Path) -> bool:
    return path.is_dir() or not _TABLES.isdisjoint(suffix.lower() for suffix in path.suffixes)


def _parts(files: Iterable[File], part_rows: int, *, numbered: bool) -> Iterator[SourcePart]:
    before = 0
    for file in files:
        mark = f"{file.path} {_mark(file.path)}"
        if file.path.suffix.lower() != ".parquet":
            rows = sum(table.num_rows for table in file.blocks(file.header[:1], part_rows)) if numbered else None
            yield SourcePart(str(file.path), mark, rows, str(file.path), before=before)
            before += rows or 0
            continue
        first = 0
        for groups, rows in _cut(file.path, part_rows):
            name = f"{mark} row groups {groups[0]} to {groups[-1]}" if groups else mark
            yield SourcePart(str(file.path), name, rows, str(file.path), groups, before if numbered else 0, first)
            first += rows
        before += first


def _cut(path: Path, part_rows: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """The row groups of a Parquet file in neighbours of at most `part_rows` rows, and their rows."""
    metadata = parquet.read_metadata(path)
    held, rows = list[int](), 0
    for group in range(metadata.num_row_groups):
        more = metadata.row_group(group).num_rows
        if held and rows + more > part_rows:
            yield tuple(held), rows
            held, rows = [], 0
        held.append(group)
        rows += more
    yield tuple(held), rows


def _mark(path: Path) -> str:
    """What differs when a file has changed."""
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
