"""A batch job: its plan, and the check and the manifest of all parts at the end. It may be killed and started again.

The plan is written first. A job that is started again compares it with its own, and leaves finished parts alone.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

import pyarrow as pa
from pyarrow import types

from features.errors import ColumnsError
from features.sources import ApplicationSource, SourcePart
from jobs.destination import without_secrets
from scoring.batch import decided_types, merged, never_known
from scoring.errors import BatchError
from scoring.histories import HISTORY, JobHistories
from scoring.identifiers import SpilledIdentifiers, count_repeated
from scoring.part import CHUNK_ROWS, QUARANTINE, WORK, DecisionSink, JobOptions, Output, PartRecord, PartTask
from scoring.store import StoredModel

MANIFEST = "_manifest.json"
"""The file that says what a finished output holds; without it an output is not finished."""

_PLAN = f"{WORK}/plan.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of the plan; `rows` is None where they are not known before they are read."""

    file: str
    fingerprint: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a job is to do. Two jobs with equal plans write the same output.

    Attributes
    ----------
    model : name and version
    table : the table in a database that decisions are written to; None for Parquet
    histories : where roll-ups are found; None if the model reads none
    job, begun : a name of its own and the time; two plans may differ in both
    """

    model: str
    digest: str
    portfolio: str
    input: str
    identifier: str
    parts: tuple[PlannedPart, ...]
    options: JobOptions
    table: str | None = None
    histories: JobHistories | None = None
    job: str = field(default_factory=lambda: secrets.token_hex(16), compare=False)
    begun: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), compare=False)

    def difference(self, other: JobPlan) -> str | None:
        """What the other plan says otherwise, in a few words; None if it says the same."""
        if (other.model, other.digest) != (self.model, self.digest):
            return f"another model, {other.model}"
        if other.options != self.options:
            names = [one.name for one in fields(JobOptions)]
            name = next(name for name in names if getattr(other.options, name) != getattr(self.options, name))
            return f"--{name} {getattr(other.options, name)}, not {getattr(self.options, name)}"
        if other.table != self.table:
            return f"another table, {other.table}"
        if other.histories != self.histories:
            return (self.histories or JobHistories()).difference(other.histories or JobHistories())
        return self._other_input(other) if other != self else None

    def _other_input(self, other: JobPlan) -> str:
        changed = {one.file for one in {*self.parts} ^ {*other.parts}}
        both = {one.file for one in self.parts} & {one.file for one in other.parts} & changed
        named = min(both or changed, default=other.input)
        return f"another input: {named} has changed" if both else f"another input: {named}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The plan that `to_dict` wrote; ValueError, KeyError or TypeError for other values."""
        given = dict(values)
        if given.pop("format") != _FORMAT:
            raise ValueError
        options = given.pop("options")
        parts = tuple(PlannedPart(**part) for part in given.pop("parts"))
        if given.get("histories"):
            given["histories"] = JobHistories.from_dict(given["histories"])
        return cls(**given, parts=parts, options=JobOptions(**{**options, "carry": tuple(options["carry"])}))


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a batch job.

    Attributes
    ----------
    withheld : scored rows that are referred because too little is known of them
    broken_rules : rows that break each rule, the most broken first
    unknown_levels : for each category of the model, the scored rows whose level the model does not know; legal,
        but many such rows are more often a misspelling than a new kind of applicant
    never_known : categories of which no row has a known level; they may be encoded as numbers
    never_stated : declared columns that are missing in every row
    ignored_columns : columns that are not declared
    passed_over : names in the folder that were not read
    histories : scored rows by the source of their roll-ups; empty if the model reads none
    """

    model: str
    version: str
    digest: str
    rows: int
    scored: int
    rejected: int
    withheld: int
    broken_rules: Mapping[str, int]
    unknown_levels: Mapping[str, int]
    never_known: tuple[str, ...] = ()
    never_stated: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    histories: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[PartRecord], model: StoredModel, source: ApplicationSource) -> Self:
        """The summary of all parts."""
        counts = merged(record.counts for record in records)
        features = model.scorer.artefact.features
        expected = [column.name for column in features.portfolio.schema if features.expects(column)]
        rules = sorted(counts.rules.items(), key=lambda rule: (-rule[1], rule[0]))
        return cls(
            model=model.name,
            version=model.version,
            digest=model.scorer.artefact.digest,
            rows=counts.rows,
            scored=counts.scored,
            rejected=counts.rejected,
            withheld=counts.withheld,
            broken_rules=dict(rules),
            unknown_levels=dict(sorted(counts.unknown.items())),
            histories=dict(sorted(counts.histories.items())),
            never_known=tuple(never_known(counts)),
            never_stated=tuple(name for name in expected if name not in counts.stated),
            ignored_columns=tuple(name for name in source.ignored_columns),
            passed_over=source.passed_over,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The summary in a manifest."""
        given: dict[str, Any] = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**given)


@dataclass(frozen=True, slots=True, eq=False)
class BatchJob:
    """A job before it is begun.

    Attributes
    ----------
    reference : tag or folder of the model, for other processes
    takes : how many rows of each part are read; None for all
    max_rejected : the job fails if more than this share of the rows is rejected
    database, table : address and name of the table that decisions go to; None for Parquet
    histories : where roll-ups are found; None if the model reads none
    """

    source: ApplicationSource
    model: StoredModel
    reference: str
    output: Output
    options: JobOptions = field(default_factory=JobOptions)
    chunk_rows: int = CHUNK_ROWS
    max_rejected: float = 1.0
    database: str | None = None
    table: str | None = None
    histories: JobHistories | None = None

    def __post_init__(self) -> None:
        if self.chunk_rows < 1:
            raise ColumnsError(f"a batch has at least 1 row, not {self.chunk_rows}")
        carry, address = self.options.carry, self.source.address
        for name in carry:
            if name not in self.source.header:
                raise ColumnsError(f"{address}: has no column {name} to carry in every part")
            if carry.count(name) > 1 or name in {
                self.source.identifier.name,
                HISTORY,
                *decided_types(with_reasons=True),
            }:
                raise ColumnsError(f"{name}: cannot be carried; the decisions have a column of this name")

    @property
    def carried(self) -> dict[str, pa.DataType]:
        """Types of the columns to carry: the stored one if it is the same everywhere, else text."""
        stored = {name: self.source.types.get(name, pa.string()) for name in self.options.carry}
        return {name: kind.value_type if types.is_dictionary(kind) else kind for name, kind in stored.items()}

    @property
    def plan(self) -> JobPlan:
        """What the job is to do."""
        artefact = self.model.scorer.artefact
        return JobPlan(
            model=f"{self.model.name}:{self.model.version}",
            digest=artefact.digest,
            portfolio=artefact.portfolio.name,
            input=self.source.address,
            identifier=self.source.identifier.name,
            parts=tuple(PlannedPart(part.name, part.fingerprint, part.rows) for part in self.source.parts),
            options=self.options,
            table=None if self.database is None else f"{self.table} of {without_secrets(self.database)}",
            histories=self.histories and self.histories.planned,
        )

    def finished(self) -> Summary | None:
        """The summary of the job if it was finished before; BatchError if the output is that of another job."""
        content = self.output.read_finished(MANIFEST)
        if content is None:
            return None
        manifest = json.loads(content)
        self._require_same(JobPlan.from_dict(manifest["plan"]), self.output.address, "holds the result of")
        return Summary.from_dict(manifest)

    def begin(self) -> tuple[PartTask, ...]:
        """Write the plan, or compare it with the one that is there; returns the tasks. BatchError if it is another."""
        plan = self.plan
        if not self.output.write_new(_PLAN, _json(plan.to_dict())):
            found = self.output.read(_PLAN) or b"{}"
            try:
                begun = JobPlan.from_dict(json.loads(found))
            except (KeyError, TypeError, ValueError):
                raise BatchError(
                    f"{self.output.unfinished}: its plan cannot be read; remove it to begin anew"
                ) from None
            self._require_same(begun, self.output.unfinished, "was begun with")
            plan = begun
        tasks = self.tasks(self._table(plan.job), begun=plan.begun)
        if tasks and tasks[0].sink is not None:
            tasks[0].sink.prepare(tasks[0].schema)
        return tasks

    def _table(self, job: str) -> DecisionSink | None:
        """The table for the parts of the job of this name."""
        if self.database is None or self.table is None:
            return None
        from features.database import DecisionTable

        return DecisionTable.at(self.database, self.table, job=job)

    def tasks(self, sink: DecisionSink | None = None, *, begun: str | None = None) -> tuple[PartTask, ...]:
        """The tasks of all parts that are read; `begun` is that of the plan, by default now."""
        moment = datetime.now(UTC) if begun is None else datetime.fromisoformat(begun)
        return tuple(
            PartTask(
                number=number,
                part=part,
                take=take,
                identifier=self.source.identifier,
                options=self.options,
                model=self.reference,
                version=self.model.version,
                digest=self.model.scorer.artefact.digest,
                output=self.output,
                begun=moment,
                histories=self.histories,
                chunk_rows=self.chunk_rows,
                carried=self.carried,
                sink=sink,
            )
            for number, (part, take) in enumerate(self._taken())
        )

    def _taken(self) -> Iterator[tuple[SourcePart, int | None]]:
        """The parts, and how many rows of each are read: only the first parts if there is a limit."""
        left = self.options.limit
        for part in self.source.parts:
            if left is None:
                yield part, None
            elif left > 0:
                yield part, left
                rows = part.rows if part.rows is not None else self._counted(part, left)
                left -= min(rows, left)

    def _counted(self, part: SourcePart, most: int) -> int:
        """The rows of a part, or `most` if it has more."""
        rows = 0
        for batch in part.batches(self.chunk_rows, self.model.scorer.artefact.portfolio):
            rows += len(batch)
            if rows >= most:
                return most
        return rows

    def _require_same(self, found: JobPlan, where: str, what: str) -> None:
        difference = self.plan.difference(found)
        if difference is not None:
            raise BatchError(f"{where}: {what} {difference}; name another output, or remove it to begin anew")

    @property
    def rows(self) -> int | None:
        """The rows that the job scores or rejects; None if they are not known before they are read."""
        whole = self.options.sample >= 1 and self.options.limit is None
        return self.source.rows if whole else None

    def check_early(self, rejected: int) -> None:
        """BatchError if so many rows are rejected that the job will fail."""
        if self.rows is not None:
            self._check_rejected(rejected, self.rows)

    def _check_rejected(self, rejected: int, rows: int) -> None:
        if rejected > self.max_rejected * rows:
            raise BatchError(
                f"{self.source.address}: {rejected} of {rows} applications are rejected, more than the share "
                f"{self.max_rejected:g} of --max-rejected; {self.output.unfinished}/{QUARANTINE} says why"
            )

    def _check(self, records: Sequence[PartRecord]) -> None:
        counts, address = merged(record.counts for record in records), self.source.address
        if not counts.rows:
            raise ColumnsError(f"{address}: has no rows{' in the sample' if self.options.sample < 1 else ''}")
        if not counts.scored:
            says = f"{self.output.unfinished}/{QUARANTINE} says why"
            raise BatchError(f"{address}: no application could be scored; {says}")
        self._check_rejected(counts.rejected, counts.rows)

    def finish(self, records: Sequence[PartRecord]) -> Summary:
        """Check all parts together, write the manifest, and give the output its name."""
        self._check(records)
        self._check_identifiers(records)
        summary = Summary.of(records, self.model, self.source)
        plan = JobPlan.from_dict(json.loads(self.output.read(_PLAN) or b"{}"))
        self.output.write(MANIFEST, _json(_manifest(plan, summary, records)))
        self.output.publish(WORK)
        return summary

    def publish(self) -> Summary | None:
        """Give the output its name if its manifest is written already; returns None if it is not."""
        content = self.output.read(MANIFEST)
        if content is None:
            return None
        manifest = json.loads(content)
        self._require_same(JobPlan.from_dict(manifest["plan"]), self.output.unfinished, "holds the result of")
        self.output.publish(WORK)
        return Summary.from_dict(manifest)

    def _check_identifiers(self, records: Sequence[PartRecord]) -> None:
        missing = sum(record.missing for record in records)
        with ExitStack() as files:
            tasks = {task.number: task for task in self.tasks()}
            spilled = [
                SpilledIdentifiers(
                    files.enter_context(self.output.local(tasks[record.number].identifiers)), record.runs
                )
                for record in records
            ]
            repeated = count_repeated(spilled)
        if missing or repeated:
            raise ColumnsError(
                f"{self.source.address}: identifiers must be present and unique: {missing} missing, {repeated} repeated"
            )


def _manifest(plan: JobPlan, summary: Summary, records: Sequence[PartRecord]) -> dict[str, Any]:
    now = datetime.now(UTC)
    times = Counter[str]()
    for record in records:
        times.update(record.seconds)
    return {
        **asdict(summary),
        "plan": plan.to_dict(),
        "finished": now.isoformat(timespec="seconds"),
        "seconds": round((now - datetime.fromisoformat(plan.begun)).total_seconds(), 3),
        "processor_seconds": {name: round(seconds, 3) for name, seconds in times.items()},
        "parts": [
            {
                "number": record.number,
                "input": record.file,
                "rows": record.counts.rows,
                "rejected": record.counts.rejected,
                "decisions": record.decisions and asdict(record.decisions),
                "quarantine": record.quarantine and asdict(record.quarantine),
            }
            for record in records
        ],
    }


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"
