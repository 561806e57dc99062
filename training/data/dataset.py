"""Labelled applications in memory, read from Kaggle's Home Credit layout and validated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import (
    APPLICATION,
    Batch,
    Columns,
    File,
    Kind,
    Violation,
    as_numbers,
    as_whole_numbers,
    concatenate,
    merge_violations,
    open_file,
)
from training.errors import DataError

from .validation import (
    constant_columns,
    identifier_violations,
    level_violations,
    overlap_violations,
    raise_if_any,
    target_violations,
    undeclared_levels,
)

_ROWS_PER_BATCH = 50_000
_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled applications.

    Attributes
    ----------
    ids : int64, shape (n,), unique
    columns : the raw columns of the n applications
    target : int64, shape (n,); 1 is default
    fingerprint : SHA-256 of the file's bytes, hexadecimal
    source : name of the file
    dates : days of the applications, datetime64[D], shape (n,); None where no date column was asked for
    warnings : what is legal but worth knowing, one line each
    """

    ids: NDArray[np.int64]
    columns: Columns
    target: NDArray[np.int64]
    fingerprint: str
    source: str
    warnings: tuple[str, ...] = ()
    dates: NDArray[np.datetime64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp]) -> Dataset:
        """The chosen rows, in the order given; fingerprint and source stay those of the whole file."""
        return replace(
            self,
            ids=self.ids[rows],
            columns=self.columns.take(rows),
            target=self.target[rows],
            dates=None if self.dates is None else self.dates[rows],
        )


def load_dataset(directory: Path, *, dates: str | None = None) -> Dataset:
    """The training data in `directory`: application_train, held against application_test where that is there.

    `dates` names the column with the days of the applications, if they are wanted.

    DataError lists every violation; FileError and ColumnsError say why a file cannot be read at all.
    """
    file = open_file(find_table(directory, "application_train"))
    batches = list(file.batches(_ROWS_PER_BATCH, others=(APPLICATION.id_column, APPLICATION.target_column)))
    if not batches:
        raise DataError(f"{file.path}: has no rows")
    columns = concatenate([batch.columns for batch in batches])
    ids, unnamed = _identifiers([batch.others[APPLICATION.id_column] for batch in batches])
    target = np.concatenate([as_numbers(batch.others[APPLICATION.target_column], Kind.FLAG)[0] for batch in batches])
    violations = [
        *identifier_violations(ids, unnamed),
        *target_violations(target),
        *overlap_violations(ids, _test_ids(directory)),
        *merge_violations(list(_violations(batches))),
        *level_violations(columns),
    ]
    raise_if_any(file.path.name, violations)
    return Dataset(
        ids=ids,
        columns=columns,
        target=target.astype(np.int64),
        fingerprint=_sha256(file.path),
        source=file.path.name,
        warnings=tuple(_warnings(columns, [name for name in file.undeclared if name != dates])),
        dates=None if dates is None else _dates(file, dates),
    )


def find_table(directory: Path, name: str) -> Path:
    """The file of the table `name`, CSV or Parquet; DataError if there is none, or both, or no such folder."""
    if not directory.is_dir():
        raise DataError(f"{directory}: {'is a file, not a folder' if directory.exists() else 'no such folder'}")
    found = _tables(directory, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{directory}: both {name}.csv and .parquet")
    near = sorted(path.name for path in directory.iterdir() if path.name.lower().startswith(f"{name}."))
    other = f"; it holds {', '.join(near)}" if near else ""
    raise DataError(f"{directory}: neither {name}.csv nor .parquet{other}")


def _tables(directory: Path, name: str) -> list[Path]:
    """The files of the table `name`, whatever the case of their suffix."""
    return sorted(path for path in directory.iterdir() if path.stem == name and path.suffix.lower() in _SUFFIXES)


def _identifiers(chunks: Sequence[pa.ChunkedArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The identifiers, and where one is missing or no whole number."""
    read = [as_whole_numbers(chunk) for chunk in chunks]
    ids = np.concatenate([numbers for numbers, _, _ in read])
    return ids, np.concatenate([missing | wrong for _, missing, wrong in read])


def _dates(file: File, name: str) -> NDArray[np.datetime64]:
    try:
        days = file.column(name).cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]")
    except pa.ArrowException:
        raise DataError(f"{file.path.name}: {name}: must be dates, as in 2026-01-31") from None
    if np.isnat(days).any():
        raise DataError(f"{file.path.name}: {name}: must be present in every row")
    return np.asarray(days)


def _violations(batches: list[Batch]) -> Iterator[Violation]:
    for batch in batches:
        for violation in batch.violations:
            yield violation.shifted(batch.first_row)


def _test_ids(directory: Path) -> NDArray[np.int64]:
    if not _tables(directory, "application_test"):
        return np.empty(0, dtype=np.int64)
    file = open_file(find_table(directory, "application_test"))
    ids, unnamed = _identifiers([file.column(APPLICATION.id_column)])
    return ids[~unnamed]


def _warnings(columns: Columns, undeclared: Sequence[str]) -> Iterator[str]:
    constants = constant_columns(columns)
    if constants:
        yield f"constant columns: {', '.join(constants)}"
    undeclared_rows = undeclared_levels(columns)
    if undeclared_rows:
        said = ", ".join(f"{name} ({count:,})" for name, count in undeclared_rows.items())
        yield f"rows with a level that is not declared: {said}"
    ignored = [name for name in undeclared if name not in (APPLICATION.id_column, APPLICATION.target_column)]
    if ignored:
        yield f"columns that are not declared and were ignored: {', '.join(ignored)}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
