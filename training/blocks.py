"""Labelled applications are kept in files and read in blocks, so that a training needs little memory.

The roll-ups of their clients are filled in here, for applications in memory too.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from features.history_files import HistoryFolder, roll_up_folder
from features.portfolio import Portfolio
from features.schema import Schema
from features.sources import FileRange, SourcePart, open_source
from features.transformer import Columns, FeatureTransformer
from features.validation import RuleViolation, merge_violations
from jobs.commandline import Progress, stop_if_asked
from training.dataset import (
    Dataset,
    Ids,
    column_warnings,
    find_applications,
    identifier_violations,
    judge_levels,
    later_ids,
    level_rules,
    outcomes,
    overlap_violations,
    raise_if_any,
    read_identifiers,
    target_violations,
)
from training.errors import DataError
from training.settings import TrainingSettings

Rows = NDArray[np.intp]
_PART_ROWS = 10_000
"""Rows of a part, unless a row group has more: several machines divide even a small file."""
BLOCK_ROWS = 16_384
"""Rows that are in memory at once."""


@dataclass(frozen=True, slots=True)
class ColumnFile:
    """Numbers of a table in one file: block after block, and column after column within a block.

    `edges` are the first row of each block and, last, the number of rows. Plain reads, since the pages of a mapped file
    would count as memory of the process.
    """

    path: Path
    width: int
    kind: type[np.float64 | np.int32]
    edges: list[int] = field(default_factory=lambda: [0])

    def append(self, block: NDArray[Any]) -> None:
        """Add a block, shape (width, rows)."""
        with self.path.open("ab") as file:
            np.ascontiguousarray(block, dtype=self.kind).tofile(file)
        self.edges.append(self.edges[-1] + block.shape[1])

    def replace(self, first: int, columns: NDArray[Any]) -> None:
        """Write neighbouring columns anew, shape (columns, rows), the first of them at position `first`."""
        with self.path.open("r+b") as file:
            for start, end in itertools.pairwise(self.edges):
                file.seek((start * self.width + first * (end - start)) * np.dtype(self.kind).itemsize)
                np.ascontiguousarray(columns[:, start:end], dtype=self.kind).tofile(file)

    def block(self, number: int) -> NDArray[Any]:
        """One block, shape (width, rows)."""
        start, end = self.edges[number : number + 2]
        return self._read(start * self.width, (end - start) * self.width).reshape(self.width, -1)

    def column(self, position: int, number: int) -> NDArray[Any]:
        """One column of a block."""
        start, end = self.edges[number : number + 2]
        return self._read(start * self.width + position * (end - start), end - start)

    def _read(self, first: int, count: int) -> NDArray[Any]:
        return np.fromfile(self.path, self.kind, count, offset=first * np.dtype(self.kind).itemsize)


class _Chosen:
    """Rows of a column file in rising order; all of them if `rows` is None."""

    def __init__(self, file: ColumnFile, rows: Rows | None = None) -> None:
        self.file = file
        self.rows = rows

    def __len__(self) -> int:
        return self.file.edges[-1] if self.rows is None else len(self.rows)

    def of(self, rows: Rows | NDArray[np.bool_]) -> Rows:
        """Positions in the file of some of these rows, which must rise."""
        wanted = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return wanted.astype(np.intp) if self.rows is None else self.rows[wanted]

    def by_block(self) -> Iterator[tuple[int, Rows | slice]]:
        """Each block that has chosen rows, and their places in it."""
        for number, (start, end) in enumerate(itertools.pairwise(self.file.edges)):
            if self.rows is None:
                yield number, slice(None)
                continue
            first, last = np.searchsorted(self.rows, [start, end])
            if first < last:
                yield number, self.rows[first:last] - start

    def column(self, position: int) -> NDArray[Any]:
        """One column of the chosen rows."""
        parts = [self.file.column(position, number)[places] for number, places in self.by_block()]
        return np.concatenate(parts) if parts else np.empty(0, self.file.kind)


class StoredColumns:
    """The raw columns of n applications in files: what `features.transformer.Columns` holds in memory.

    Levels are stored as positions among the `texts` of their column. `take` chooses rows, which must rise.
    """

    def __init__(self, numbers: ColumnFile, levels: ColumnFile, texts: Sequence[dict[str | None, int]],
                 portfolio: Portfolio, rows: Rows | None = None) -> None:  # fmt: skip
        self.portfolio = portfolio
        self._numbers, self._levels = _Chosen(numbers, rows), _Chosen(levels, rows)
        self._texts = texts

    @classmethod
    def empty(cls, folder: Path, portfolio: Portfolio) -> Self:
        """Columns of no rows, whose files will be in `folder`."""
        schema = portfolio.schema
        return cls(
            ColumnFile(folder / "numbers", len(schema.numeric), np.float64),
            ColumnFile(folder / "levels", len(schema.categorical), np.int32),
            [{} for _ in schema.categorical],
            portfolio,
        )

    @property
    def schema(self) -> Schema:
        """The declaration of the columns."""
        return self.portfolio.schema

    def __len__(self) -> int:
        return len(self._numbers)

    def append(self, columns: Columns) -> None:
        """Add the rows of a block."""
        self._numbers.file.append(columns.numbers.T)
        coded = [
            [known.setdefault(level, len(known)) for level in levels]
            for known, levels in zip(self._texts, columns.levels.T.tolist(), strict=True)
        ]
        self._levels.file.append(np.array(coded, dtype=np.int32).reshape(len(self._texts), len(columns)))

    def fill_roll_ups(self, rolled_up: NDArray[np.float64]) -> None:
        """Write the roll-ups of all rows, shape (n, roll-ups), which are the last numeric columns."""
        self._numbers.file.replace(self._numbers.file.width - rolled_up.shape[1], rolled_up.T)

    def take(self, rows: Rows | NDArray[np.bool_]) -> StoredColumns:
        """The chosen rows, which must rise; they stay in the files."""
        files = self._numbers.file, self._levels.file
        return StoredColumns(*files, self._texts, self.portfolio, self._numbers.of(rows))

    def blocks(self) -> Iterator[Columns]:
        """The rows in their order, block by block."""
        texts = [np.array(list(known), dtype=object) for known in self._texts]
        for number, places in self._numbers.by_block():
            stop_if_asked()
            coded = self._levels.file.block(number)[:, places]
            levels = np.empty(coded.T.shape, dtype=object)
            for i, known in enumerate(texts):
                levels[:, i] = known[coded[i]]
            yield Columns(self._numbers.file.block(number)[:, places].T, levels, self.portfolio)

    def loaded(self) -> Columns:
        """The rows in memory."""
        numbers, levels = np.empty((len(self), self._numbers.file.width)), []
        first = 0
        for block in self.blocks():
            numbers[first : first + len(block)] = block.numbers
            levels.append(block.levels)
            first += len(block)
        return Columns(numbers, np.concatenate(levels), self.portfolio)

    def number(self, position: int) -> NDArray[np.float64]:
        """One numeric column, shape (n,)."""
        return self._numbers.column(position)

    def level_counts(self, position: int) -> Counter[str | None]:
        """How many rows have each level of one category."""
        texts = list(self._texts[position])
        counts = np.bincount(self._levels.column(position), minlength=len(texts)).tolist()
        return Counter({text: count for text, count in zip(texts, counts, strict=True) if count})

    def rows_with(self, position: int, levels: Collection[str | None]) -> Rows:
        """The rows in which one category has one of these levels."""
        codes = [code for level, code in self._texts[position].items() if level in levels]
        return np.flatnonzero(np.isin(self._levels.column(position), codes))

    @contextmanager
    def transformed(self, transformer: FeatureTransformer) -> Iterator[BlockMatrix]:
        """The model matrix of these rows in a file, which is removed after the block."""
        with tempfile.TemporaryDirectory(dir=self._numbers.file.path.parent) as scratch:
            file = ColumnFile(Path(scratch) / "matrix", len(transformer.names), np.float64)
            for columns in self.blocks():
                file.append(transformer.transform(columns).T)
            yield BlockMatrix(file)


class BlockMatrix(lgb.Sequence):
    """A model matrix in a file; LightGBM bins it batch by batch. Rows that are indexed come as an array."""

    batch_size = BLOCK_ROWS

    def __init__(self, file: ColumnFile, rows: Rows | None = None) -> None:
        self._chosen = _Chosen(file, rows)
        self._held: tuple[int, NDArray[np.float64]] = -1, np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, rows: int | slice | list[int] | Rows) -> NDArray[np.float64]:
        if isinstance(rows, slice):
            return self._gathered(self._chosen.of(np.arange(*rows.indices(len(self)))))
        if isinstance(rows, np.ndarray | list):
            return self._gathered(self._chosen.of(np.array(rows, dtype=np.intp)))
        row = int(rows) if self._chosen.rows is None else int(self._chosen.rows[rows])
        number = bisect.bisect_right(self._chosen.file.edges, row) - 1
        found: NDArray[np.float64] = self._block(number)[row - self._chosen.file.edges[number]]
        return found

    def take(self, rows: Rows, axis: int = 0) -> BlockMatrix:
        """The chosen rows, which must rise; they stay in the file. The name and `axis` are those of NumPy."""
        assert axis == 0  # noqa: S101 - columns are never taken
        return BlockMatrix(self._chosen.file, self._chosen.of(rows))

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """The rows in their order, block by block."""
        for number, places in self._chosen.by_block():
            stop_if_asked()
            yield np.ascontiguousarray(self._block(number)[places])

    def features(self) -> Iterator[NDArray[np.float64]]:
        """The columns in their order, each of shape (n,)."""
        for position in range(self._chosen.file.width):
            yield self._chosen.column(position)

    def _block(self, number: int) -> NDArray[np.float64]:
        # LightGBM draws its sample row by row, in rising order.
        if self._held[0] != number:
            self._held = number, np.ascontiguousarray(self._chosen.file.block(number).T)
        return self._held[1]

    def _gathered(self, rows: Rows) -> NDArray[np.float64]:
        # Rows that do not rise are those of a group that reasons compare with: a few thousand.
        order = np.argsort(rows, kind="stable")
        found = [*_Chosen(self._chosen.file, rows[order]).by_block()]
        gathered = np.empty((len(rows), self._chosen.file.width))
        if found:
            gathered[order] = np.concatenate([self._block(number)[places] for number, places in found])
        return gathered


class BlockDataset(lgb.Dataset):
    """LightGBM's data set of a matrix in blocks; its bins are those that the same matrix has in memory."""

    def get_params(self) -> dict[str, Any]:
        """The parameters, with the seed that LightGBM would leave out."""
        # LightGBM 4.7 draws the rows for its bins by `seed`, and for a Sequence drops this very parameter.
        seed = {name: value for name, value in (self.params or {}).items() if name == "seed"}
        return {**super().get_params(), **seed}

    def _set_init_score_by_predictor(self, predictor: Any, data: Any, used_indices: Any) -> lgb.Dataset:
        # LightGBM cannot predict a Sequence, and a fit that goes on begins with the margins of its earlier trees.
        if predictor is None or not isinstance(data, BlockMatrix):
            return super()._set_init_score_by_predictor(predictor, data, used_indices)
        margins = [predictor.predict(data=block, raw_score=True) for block in data.blocks()]
        self.set_init_score(np.concatenate(margins).ravel())
        return self


@dataclass(frozen=True, slots=True, eq=False)
class StoredDataset:
    """Labelled applications whose columns are in files; the attributes are those of `Dataset`."""

    ids: Ids
    columns: StoredColumns
    target: NDArray[np.int64]
    fingerprint: str
    source: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def portfolio(self) -> Portfolio:
        """What declares the columns."""
        return self.columns.portfolio

    def loaded(self, rows: Rows) -> Dataset:
        """The chosen rows, which must rise, in memory."""
        return self._with(self.columns.take(rows).loaded(), slice(None), rows)

    def blocks(self) -> Iterator[Dataset]:
        """All rows in their order, block by block, in memory."""
        first = 0
        for columns in self.columns.blocks():
            yield self._with(columns, slice(first, first + len(columns)))
            first += len(columns)

    def spaced(self, most: int) -> Rows:
        """At most `most` row numbers, evenly spaced."""
        return np.arange(0, len(self), max(1, -(-len(self) // most)))

    def _with(self, columns: Columns, rows: slice, of: Rows | None = None) -> Dataset:
        ids, target = (self.ids, self.target) if of is None else (self.ids[of], self.target[of])
        return Dataset(ids[rows], columns, target[rows], self.fingerprint, self.source, self.warnings)


def read_source(data: Path, portfolio: Portfolio) -> tuple[SourcePart, ...]:
    """The parts of a portfolio's labelled applications: of one file, or of a folder that holds nothing else."""
    held = data.is_dir() and not any(data.glob(f"{portfolio.declared.files.train}.*"))
    address = data if held else find_applications(data, portfolio)
    return open_source(str(address), portfolio, part_rows=_PART_ROWS).parts


def store_parts(parts: Sequence[SourcePart], data: Path, portfolio: Portfolio, folder: Path) -> StoredDataset:
    """Read and validate parts of a portfolio's labelled applications, and keep their columns in `folder`.

    DataError lists every violation; its rows count from the first of these parts.
    """
    schema, outcome = portfolio.schema, portfolio.declared.outcome
    columns = StoredColumns.empty(folder, portfolio)
    violations: list[RuleViolation] = []
    targets, ids, unnamed = list[NDArray[np.float64]](), list[Ids](), list[NDArray[np.bool_]]()
    for part in parts:
        for batch in part.batches(BLOCK_ROWS, portfolio, others=schema.beside):
            stop_if_asked()
            violations += [violation.shifted(len(columns)) for violation in batch.violations]
            targets.append(outcomes(batch.others[schema.target_column], outcome))
            named, wrong = read_identifiers([batch], portfolio, first=len(columns) + 1)
            ids.append(named)
            unnamed.append(wrong)
            columns.append(batch.columns)
    names = {Path(part.name).name for part in parts}
    source = names.pop() if len(names) == 1 else data.name
    if not len(columns):
        raise DataError(f"{source}: has no rows")
    target = np.concatenate(targets)
    identifiers = cast("Ids", np.concatenate(ids))
    raise_if_any(
        source,
        [
            *identifier_violations(identifiers, np.concatenate(unnamed), portfolio),
            *target_violations(target, outcome),
            *overlap_violations(identifiers, later_ids(data, portfolio), portfolio),
            *merge_violations(violations),
            *_level_violations(columns),
        ],
    )
    undeclared = {name: len(rows) for name, rows, _ in _undeclared_levels(columns)}
    return StoredDataset(
        ids=identifiers,
        columns=columns,
        target=target.astype(np.int64),
        fingerprint=_fingerprint(parts),
        source=source,
        warnings=tuple(column_warnings(_constant(columns), undeclared, ())),
    )


def _undeclared_levels(columns: StoredColumns) -> Iterator[tuple[str, Rows, int]]:
    for i, column in enumerate(columns.schema.categorical):
        undeclared, stated = judge_levels(column, columns.level_counts(i))
        if undeclared:
            yield column.name, columns.rows_with(i, undeclared), stated


def _level_violations(columns: StoredColumns) -> list[RuleViolation]:
    return level_rules(_undeclared_levels(columns))


def _constant(columns: StoredColumns) -> tuple[str, ...]:
    schema, found = columns.schema, set[str]()
    for i, column in enumerate(schema.numeric):
        values = columns.number(i)
        if column.history and np.isnan(values).all():  # nobody gave the histories
            continue
        if np.all((values == values[0]) | (np.isnan(values) & np.isnan(values[0]))):
            found.add(column.name)
    found |= {column.name for i, column in enumerate(schema.categorical) if len(columns.level_counts(i)) < 2}
    return tuple(column.name for column in schema if column.name in found)


def _fingerprint(parts: Sequence[SourcePart]) -> str:
    """SHA-256 of the bytes of the files, one after the other; of one file, that of the file."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(part.reads.file.place for part in parts if isinstance(part.reads, FileRange)):
        with Path(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


AnyDataset = TypeVar("AnyDataset", Dataset, StoredDataset)
_MISSING = "their roll-ups are missing"


def reads_histories(settings: TrainingSettings) -> bool:
    """Whether a chosen feature reads a roll-up."""
    rolled_up = {column.name for column in settings.declared.schema.rolled_up}
    return any(not rolled_up.isdisjoint(one.sources) for one in settings.features.select(settings.declared))


def with_histories(dataset: AnyDataset, data: Path, settings: TrainingSettings, progress: Progress) -> AnyDataset:
    """The applications with the roll-ups of their clients, where features read them and the folder has the tables.

    The roll-ups of a table whose file is not there stay missing, and a warning names it. A file of applications may
    state its roll-ups itself; then no table is read. The columns are written in place.
    """
    portfolio: Portfolio = settings.declared
    if portfolio.histories is None or not reads_histories(settings) or _states_roll_ups(dataset):
        return dataset
    absent = HistoryFolder.open(data, portfolio).absent if data.is_dir() else [*portfolio.declared.histories]
    if absent:
        dataset = replace(dataset, warnings=(*dataset.warnings, f"no file of {', '.join(absent)}: {_MISSING}"))
    if len(absent) == len(portfolio.histories.tables):
        return dataset
    day = portfolio.declared.decided_on
    days = None if day is None else _number(dataset, portfolio.schema.position[day])
    rolled_up = roll_up_folder(data, portfolio, dataset.ids, days, progress=progress)
    if isinstance(dataset, Dataset):
        dataset.columns.numbers[:, -rolled_up.shape[1] :] = rolled_up
    else:
        dataset.columns.fill_roll_ups(rolled_up)
    digest = hashlib.sha256(dataset.fingerprint.encode())
    digest.update(np.ascontiguousarray(rolled_up).tobytes())
    return replace(dataset, fingerprint=digest.hexdigest())


def _states_roll_ups(dataset: Dataset | StoredDataset) -> bool:
    schema = dataset.portfolio.schema
    return any(not np.isnan(_number(dataset, schema.position[one.name])).all() for one in schema.rolled_up)


def _number(dataset: Dataset | StoredDataset, position: int) -> NDArray[np.float64]:
    """One numeric column of all rows."""
    columns = dataset.columns
    return columns.numbers[:, position] if isinstance(columns, Columns) else columns.number(position)
