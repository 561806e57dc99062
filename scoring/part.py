"""One part of a batch job: its rows are decided batch by batch, and written to files of its own.

A part is finished when its record is written, which is the last of its files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from features.files import RowBatch
from features.portfolio import Portfolio
from features.sources import Identifier, SourcePart
from jobs.destination import OutputBucket, OutputFolder
from scoring.batch import BatchCounts, BatchDecider, DecidedBatch, StageTimes, decided_types, errors_of
from scoring.errors import BatchError
from scoring.histories import HISTORY, JobHistories
from scoring.identifiers import IdentifierSpill, hashes_of, sampled
from scoring.store import StoredModel, load_folder, load_stored

Advance = Callable[[int], object]
Output = OutputFolder | OutputBucket

QUARANTINE = "_quarantine"
"""The folder of the rows that break a rule. Readers of Parquet folders pass over names that begin with _."""

WORK = "_work"
"""The folder of the plan, the records of finished parts and the identifiers; it is gone at the end."""

_GROUP_ROWS = 100_000
"""Rows of a row group: always the same, so that the bytes of a part do not depend on how it was computed."""

CHUNK_ROWS = 8_192
"""Rows that are read and scored at a time."""


class DecisionSink(Protocol):
    """Where decisions go in the place of Parquet files: each part once, as a whole."""

    def prepare(self, schema: pa.Schema) -> None:
        """Make room for decisions of these columns."""
        ...

    def write(self, part: int, tables: Iterable[pa.Table]) -> bool:
        """Write the tables of a part; returns False, and writes nothing, if the part is there already."""
        ...


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job does with the rows; jobs of different options are different jobs.

    Attributes
    ----------
    carry : columns of the input that the decisions repeat
    reasons : whether declines have reasons
    limit : how many rows are read, from the first; None for all
    sample : share of the rows, chosen by their identifiers
    """

    carry: tuple[str, ...] = ()
    reasons: bool = True
    limit: int | None = None
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class PartTask:
    """All that another process needs to score one part.

    Attributes
    ----------
    take : how many of the first rows are read; None for all
    carried : types of the columns that the decisions repeat
    model : tag in the BentoML store, or folder of an artefact
    version, digest : version of the model, digest of its artefact
    begun : when the job was begun
    histories : where roll-ups are found; None if the model reads none
    """

    number: int
    part: SourcePart
    take: int | None
    identifier: Identifier
    carried: Mapping[str, pa.DataType]
    options: JobOptions
    model: str
    version: str
    digest: str
    output: Output
    begun: datetime
    histories: JobHistories | None = None
    sink: DecisionSink | None = None
    chunk_rows: int = CHUNK_ROWS

    @property
    def schema(self) -> pa.Schema:
        """The columns of the decisions."""
        named = {self.identifier.name: pa.int64() if self.identifier.whole else pa.string()}
        beside = {} if self.histories is None else {HISTORY: pa.string()}
        return pa.schema({**named, **self.carried, **decided_types(with_reasons=self.options.reasons), **beside})

    @property
    def decisions(self) -> str:
        """The file of the decisions. Numbers are padded, so that sorting by name keeps the order of the rows."""
        return f"part-{self.number:05}.parquet"

    @property
    def rejections(self) -> str:
        """The file of the rows that break a rule."""
        return f"{QUARANTINE}/part-{self.number:05}.parquet"

    @property
    def identifiers(self) -> str:
        """The file of the identifiers."""
        return f"{WORK}/identifiers-{self.number:05}.arrow"

    @property
    def record(self) -> str:
        """The file of the part's record."""
        return f"{WORK}/part-{self.number:05}.json"

    def batches(self, portfolio: Portfolio) -> Iterator[tuple[RowBatch, int]]:
        """The rows in batches, and how many of each are to be taken: fewer than all at the limit alone."""
        left = self.take
        others = tuple(dict.fromkeys((*self.identifier.others, *self.options.carry)))
        for batch in self.part.batches(self.chunk_rows, portfolio, others=others):
            yield batch, len(batch) if left is None else min(len(batch), left)
            if left is not None:
                left -= len(batch)
                if left <= 0:
                    return


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of the output with its rows, bytes and SHA-256."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What was done with one part.

    Attributes
    ----------
    missing : rows without an identifier
    runs : where the buckets of the spilled identifiers end, run by run
    seconds : processor time of each stage
    """

    number: int
    file: str
    counts: BatchCounts
    missing: int
    runs: Sequence[Sequence[int]]
    decisions: WrittenFile | None
    quarantine: WrittenFile | None
    seconds: Mapping[str, float]

    def to_json(self) -> bytes:
        """The content of the record's file."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        written = {name: values[name] and asdict(values[name]) for name in ("decisions", "quarantine")}
        return json.dumps({**values, **written, "counts": self.counts.to_dict()}).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The record that `to_json` wrote."""
        values = json.loads(content)
        values["counts"] = BatchCounts.from_dict(values["counts"])
        for name in ("decisions", "quarantine"):
            values[name] = values[name] and WrittenFile(**values[name])
        return cls(**values)


def read_record(task: PartTask) -> PartRecord | None:
    """The record of a part that is finished; None for another."""
    content = task.output.read(task.record)
    if content is None:
        return None
    record = PartRecord.from_json(content)
    kept = [file for file in (record.decisions, record.quarantine) if file]
    return record if all(task.output.size(file.file) == file.bytes for file in kept) else None


def score_part(task: PartTask, model: StoredModel | None = None, *, advance: Advance = lambda _: None) -> PartRecord:
    """Score one part and write its files; a part that is finished is left alone. Returns its record.

    FileError or ColumnsError if it cannot be read, OutputError if its files cannot be written.
    """
    record = read_record(task)
    if record is None:
        stored = model or loaded_model(task.model, task.version, task.digest)
        record = _PartWork(task, stored, advance).done()
        task.output.write(task.record, record.to_json())
    return record


@cache
def loaded_model(model: str, version: str, digest: str) -> StoredModel:
    """The model of this tag or folder, loaded once by each process; BatchError if it has another digest."""
    stored = load_folder(Path(model)) if is_folder(model) else load_stored(model)
    if stored.scorer.artefact.digest != digest:
        raise BatchError(f"{model}: is not the model that the job was planned with")
    # A folder may have another name on the machine of the process.
    return replace(stored, version=version)


def is_folder(model: str) -> bool:
    """Whether a model is named by the folder of its artefact, and not by a tag.

    >>> is_folder("credit_scoring:latest"), is_folder("./artefact")
    (False, True)
    """
    return "/" in model


@contextmanager
def opened_decider(
    task: PartTask, model: StoredModel, counts: BatchCounts, times: StageTimes
) -> Iterator[BatchDecider]:
    """Decides on the rows of the part during the block, in which the feature store is open if there is one."""
    found = task.histories
    if found is None:
        yield BatchDecider(model, task.options.reasons, counts=counts, times=times)
        return
    second = found.application_only
    alone = None if second is None else loaded_model(second.reference, second.version, second.digest)
    with found.opened(model.scorer.artefact.portfolio, task.begun.timestamp()) as filler:
        yield BatchDecider(model, task.options.reasons, filler, alone, found.refuse, counts, times)


def taken_rows(task: PartTask, hashes: NDArray[np.uint64], take: int) -> NDArray[np.bool_] | None:
    """The rows of a batch that limit and sample leave, from the hashes of its identifiers; None for all."""
    if take == len(hashes) and task.options.sample >= 1:
        return None
    rows = sampled(hashes, task.options.sample)
    rows[take:] = False
    return rows


def counts_of_first(task: PartTask, model: StoredModel) -> BatchCounts:
    """The counts of the first rows of a part, which are decided on as in the job and written nowhere."""
    counts = BatchCounts()
    with opened_decider(task, model, counts, StageTimes()) as decider:
        for batch, take in task.batches(model.scorer.artefact.portfolio):
            identifiers = task.identifier.of(task.part, batch)
            decider.decide(batch, identifiers, taken_rows(task, hashes_of(identifiers), take))
            break
    return counts


class _PartWork:
    """The work on one part, from its rows to its files."""

    def __init__(self, task: PartTask, model: StoredModel, advance: Advance) -> None:
        self.task, self.model, self.advance = task, model, advance
        self.times, self.counts = StageTimes(), BatchCounts()

    def done(self) -> PartRecord:
        """Write the files; returns the record."""
        task, output = self.task, self.task.output
        for name in (task.decisions, task.rejections, task.identifiers):
            output.remove_scratch(name)
        with ExitStack() as files:
            spill = IdentifierSpill(files.enter_context(output.writing(task.identifiers)))
            quarantine = TableFile(lambda: files.enter_context(output.writing(task.rejections)), task.rejections)
            decisions = TableFile(lambda: files.enter_context(output.writing(task.decisions)), task.decisions)
            decider = files.enter_context(opened_decider(task, self.model, self.counts, self.times))
            tables = self._tables(spill, quarantine, decider)
            if task.sink is None:
                for table in tables:
                    with self.times.stage("write"):
                        decisions.add(table)
            elif not task.sink.write(task.number, tables):
                # The part is in the table, but its record was never written: the counts are made again.
                for _ in tables:
                    pass
            with self.times.stage("write"):
                spill.close()
                written, rejected = decisions.close(), quarantine.close()
        return PartRecord(
            number=task.number,
            file=task.part.name,
            counts=self.counts,
            missing=spill.missing,
            runs=spill.runs,
            decisions=written,
            quarantine=rejected,
            seconds={name: round(seconds, 6) for name, seconds in self.times.seconds.items()},
        )

    def _tables(self, spill: IdentifierSpill, quarantine: TableFile, decider: BatchDecider) -> Iterator[pa.Table]:
        task, stage = self.task, self.times.stage
        for batch, take in self.times.reading(task.batches(self.model.scorer.artefact.portfolio)):
            with stage("identifiers"):
                identifiers = task.identifier.of(task.part, batch)
                hashes = hashes_of(identifiers)
                rows = taken_rows(task, hashes, take)
                whole = rows is None
                spill.add(
                    identifiers if whole else identifiers.filter(pa.array(rows)), hashes if whole else hashes[rows]
                )
            decided = decider.decide(batch, identifiers, rows)
            with stage("write"):
                if decided.batch.violations:
                    quarantine.add(self._rejected(decided, identifiers, rows))
                table = self._decisions(decided, identifiers)
            yield table
            self.advance(len(batch))

    def _decisions(self, decided: DecidedBatch, identifiers: pa.ChunkedArray[Any]) -> pa.Table:
        carried = {name: _cast(decided.batch.others[name], kind) for name, kind in self.task.carried.items()}
        beside = pa.table({self.task.identifier.name: identifiers, **carried})
        if not decided.scored.all():
            beside = beside.filter(pa.array(decided.scored))
        for name in decided.table.column_names:
            beside = beside.append_column(name, decided.table[name])
        return beside

    def _rejected(
        self, decided: DecidedBatch, identifiers: pa.ChunkedArray[Any], rows: NDArray[np.bool_] | None
    ) -> pa.Table:
        """Who was rejected and why. No value of an applicant is here but the identifier."""
        batch = decided.batch
        chosen = np.flatnonzero(~decided.scored if rows is None else rows & ~decided.scored)
        return pa.table(
            {
                self.task.identifier.name: identifiers.take(pa.array(chosen)),
                "file": pa.array([self.task.part.name] * len(chosen), pa.string()),
                "file_row": pa.array(chosen + (batch.first_row + 1)),
                "errors": errors_of(batch, chosen),
            }
        )


def _cast(values: pa.ChunkedArray[Any], kind: pa.DataType) -> pa.ChunkedArray[Any]:
    return values if values.type == kind else values.cast(kind)


class TableFile:
    """A Parquet file that tables are added to. Without a row there is no file.

    Its bytes depend on the rows alone, and not on the tables in which they came.
    """

    def __init__(self, opened: Callable[[], BinaryIO], name: str) -> None:
        self._opened = opened
        self._name = name
        self._held: list[pa.Table] = []
        self._file: _HashedFile | None = None
        self._writer: parquet.ParquetWriter | None = None
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        if not len(table):
            return
        self._held.append(table)
        self.rows += len(table)
        while sum(map(len, self._held)) >= _GROUP_ROWS:
            held = pa.concat_tables(self._held)
            self._write(held.slice(0, _GROUP_ROWS))
            self._held = [held.slice(_GROUP_ROWS)]

    def close(self) -> WrittenFile | None:
        """Write what is left; returns what was written, None for no row."""
        held = sum(map(len, self._held))
        if held:
            self._write(pa.concat_tables(self._held))
        if self._writer is None or self._file is None:
            return None
        self._writer.close()
        return WrittenFile(self._name, self.rows, self._file.size, self._file.digest.hexdigest())

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._file = _HashedFile(self._opened())
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        # Pages end where chunks end: the bytes would depend on the batches.
        self._writer.write_table(table.combine_chunks(), row_group_size=_GROUP_ROWS)


class _HashedFile:
    """A file that counts and hashes what is written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self._file.write(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave it to the block that has opened the file."""
