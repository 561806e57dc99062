"""The rows of a batch are decided at once: a table of decisions, the rules that the other rows break, and counts.

An application without a known history is scored, refused, or left to a model of the application alone. A batch comes
from a file, or from the memory of another program: a task of Spark, a notebook.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.files import RowBatch, read_from, read_table
from scoring.histories import HISTORY, HistoryFiller, source_column, source_counts, unknown_rows, with_refusals
from scoring.reasons import MOST_REASONS
from scoring.scorer import Scores
from scoring.store import StoredModel, load_folder

_Item = TypeVar("_Item")
_Rows = NDArray[np.bool_] | None
"""Which rows of a batch are taken; None for all."""

_ABSENT = -1
"""Arrow's code of a missing entry, before it becomes one."""
_ERRORS = pa.list_(pa.struct([("column", pa.string()), ("rule", pa.string())]))
_LISTED = 8
"""Absent columns that an error names."""


@dataclass(frozen=True, slots=True, eq=False)
class DecidedRows:
    """The decisions on the rows of a batch that break no rule.

    Attributes
    ----------
    scored : which rows of the batch they are, shape (n,)
    table : one row for each of them: probability, prediction, decision, risk_level, score, missing, unknown,
        unknown_columns, withheld, the codes of a decline's reasons, and model_version
    levels : for each category of the model, how many of them state a level
    """

    scored: NDArray[np.bool_]
    table: pa.Table
    scores: Scores
    levels: Mapping[str, int]


def decide(
    batch: RowBatch, model: StoredModel, *, rows: NDArray[np.bool_] | None = None, with_reasons: bool = True
) -> DecidedRows:
    """The decisions on the rows of a batch, or on those of `rows`, that break no rule."""
    scored = sound_rows(batch)
    if rows is not None:
        scored &= rows
    columns, scorer = batch.columns, model.scorer
    matrix = scorer.transformer.transform(columns if scored.all() else columns.take(scored))
    scores = scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=with_reasons)
    categories = list(scorer.transformer.categorical)
    stated = np.count_nonzero(~np.isnan(matrix[:, categories]), axis=0).tolist()
    names = [scorer.transformer.names[i] for i in categories]
    table = _decision_table(scores, model.version, with_reasons=with_reasons)
    return DecidedRows(scored, table, scores, dict(zip(names, stated, strict=True)))


def sound_rows(batch: RowBatch) -> NDArray[np.bool_]:
    """Whether each row of a batch breaks no rule, shape (n,)."""
    sound = np.ones(len(batch), dtype=np.bool_)
    for violation in batch.violations:
        sound[violation.rows] = False
    return sound


def errors_of(batch: RowBatch, rows: NDArray[np.intp]) -> pa.Array[Any]:
    """The rules that each of these rows breaks, as a list of `column` and `rule`; null for a row that breaks none."""
    broken: dict[int, list[dict[str, str]]] = {}
    for violation in batch.violations:
        for row in violation.rows.tolist():
            broken.setdefault(row, []).append({"column": violation.column, "rule": violation.rule})
    return pa.array([broken.get(row) for row in rows.tolist()], _ERRORS)


def _decision_table(scores: Scores, version: str, *, with_reasons: bool) -> pa.Table:
    reasons = _reasons(scores.reasons) if with_reasons else {}
    return pa.table(
        {
            "probability": pa.array(scores.probability),
            "prediction": pa.array(scores.prediction),
            "decision": pa.array(scores.decision, pa.string()),
            "risk_level": pa.array(scores.risk_level, pa.string()),
            "score": pa.array(scores.points),
            "missing": pa.array(scores.missing, pa.int64()),
            "unknown": pa.array(_lengths(scores.unknown)),
            "unknown_columns": _concatenated(scores.unknown),
            "withheld": _concatenated(scores.withheld),
            **reasons,
            "model_version": pa.DictionaryArray.from_arrays(
                np.zeros(len(scores), np.int32), [version]
            ).dictionary_decode(),
        }
    )


def decided_types(*, with_reasons: bool) -> dict[str, pa.DataType]:
    """Names and types of the columns that `decide` gives, in their order."""
    whole, text = pa.int64(), pa.string()
    return {
        "probability": pa.float64(),
        "prediction": whole,
        "decision": text,
        "risk_level": text,
        "score": whole,
        "missing": whole,
        "unknown": whole,
        "unknown_columns": text,
        "withheld": text,
        **({f"reason_{place + 1}": text for place in range(MOST_REASONS)} if with_reasons else {}),
        "model_version": text,
    }


def _filled(tuples: NDArray[np.object_]) -> list[int]:
    """The positions of the tuples that are not empty. Hardly any is, so that only these are looked at one by one."""
    return tuples.astype(np.bool_).nonzero()[0].tolist()


def _lengths(tuples: NDArray[np.object_]) -> NDArray[np.int64]:
    lengths = np.zeros(len(tuples), dtype=np.int64)
    for row in _filled(tuples):
        lengths[row] = len(tuples[row])
    return lengths


def _concatenated(tuples: NDArray[np.object_]) -> pa.Array[Any]:
    """Tuples of text as one text each, null where there is none."""
    return _texts(len(tuples), ((row, "; ".join(tuples[row])) for row in _filled(tuples)))


def _reasons(reasons: NDArray[np.object_]) -> dict[str, pa.Array[Any]]:
    """The codes of the reasons, the most important first; null where there are fewer."""
    declined = reasons.astype(np.bool_).nonzero()[0]
    told = reasons[declined].tolist()
    # Applicants with the same reasons share one tuple, mostly: it is looked at once.
    which = list(map(id, told))
    distinct = dict(zip(which, told, strict=True))
    number = {one: place for place, one in enumerate(distinct)}
    numbers = np.full(len(reasons), len(distinct))
    numbers[declined] = [number[one] for one in which]
    indices = pa.array(numbers)

    def of(place: int) -> pa.Array[Any]:
        codes = [one[place].code if len(one) > place else None for one in distinct.values()]
        return pa.array([*codes, None], pa.string()).take(indices)

    return {f"reason_{place + 1}": of(place) for place in range(MOST_REASONS)}


def _texts(rows: int, given: Iterable[tuple[int, str]]) -> pa.Array[Any]:
    """The texts that are given for some rows, null in the others."""
    codes, known = np.full(rows, _ABSENT, dtype=np.int32), dict[str, int]()
    for row, text in given:
        codes[row] = known.setdefault(text, len(known))
    if not known:
        return pa.nulls(rows, pa.string())
    indices = pa.array(codes, mask=codes == _ABSENT)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(known), pa.string())).dictionary_decode()


@dataclass(slots=True)
class BatchCounts:
    """The counts of some batches.

    Attributes
    ----------
    withheld : scored rows that are referred because too little is known of them
    rules : rows that break each rule
    unknown : for each category, the scored rows whose level the model does not know
    levels : for each category, the scored rows that state a level
    histories : scored rows by the source of their roll-ups, where the model reads some
    stated : declared columns in which some row holds a value
    """

    rows: int = 0
    rejected: int = 0
    withheld: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    histories: Counter[str] = field(default_factory=Counter)
    stated: set[str] = field(default_factory=set)

    @property
    def scored(self) -> int:
        """The rows that broke no rule."""
        return self.rows - self.rejected

    def add(self, batch: RowBatch, decided: DecidedRows, rows: NDArray[np.bool_] | None = None) -> None:
        """Count one batch, or its rows `rows`."""
        taken = len(batch) if rows is None else int(np.count_nonzero(rows))
        self.rows += taken
        self.rejected += taken - len(decided.scores)
        for violation in batch.violations:
            count = violation.count if rows is None else int(np.count_nonzero(rows[violation.rows]))
            if count:
                self.rules[f"{violation.column}: {violation.rule}"] += count
        self.withheld += len(_filled(decided.scores.withheld))
        unknown = decided.scores.unknown
        self.unknown.update(name for row in _filled(unknown) for name in unknown[row])
        self.levels.update(decided.levels)
        # Once every column was seen with a value there is nothing more to find.
        if len(self.stated) < len(batch.columns.schema):
            self.stated |= batch.stated

    def merge(self, other: BatchCounts) -> None:
        """Add the counts of other batches."""
        self.rows += other.rows
        self.rejected += other.rejected
        self.withheld += other.withheld
        self.rules.update(other.rules)
        self.unknown.update(other.unknown)
        self.levels.update(other.levels)
        self.histories.update(other.histories)
        self.stated |= other.stated

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "stated": sorted(self.stated)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The counts that `to_dict` wrote."""
        counters = {name: Counter(values.get(name, {})) for name in ("rules", "unknown", "levels", "histories")}
        return cls(values["rows"], values["rejected"], values["withheld"], stated=set(values["stated"]), **counters)


def merged(counts: Iterable[BatchCounts]) -> BatchCounts:
    """The counts of all of them together."""
    total = BatchCounts()
    for one in counts:
        total.merge(one)
    return total


def never_known(counts: BatchCounts) -> Iterator[str]:
    """The categories of which no row states a level that the model knows."""
    return (name for name, count in sorted(counts.unknown.items()) if count == counts.levels[name])


class StageTimes:
    """The processor time of each stage of the work on a part."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the processor time of the block."""
        started = time.process_time()
        yield
        self.seconds[name] += time.process_time() - started

    def reading(self, batches: Iterator[_Item]) -> Iterator[_Item]:
        """The batches; the time that they take is that of the stage `read`."""
        while True:
            with self.stage("read"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@dataclass(frozen=True, slots=True, eq=False)
class DecidedBatch:
    """The decisions on a batch.

    Attributes
    ----------
    batch : with what was refused among its violations
    scored : which of its rows are decided on, shape (n,)
    table : one row for each of them, as of `decide`, and `history` where the model reads some
    """

    batch: RowBatch
    scored: NDArray[np.bool_]
    table: pa.Table


@dataclass(frozen=True, slots=True, eq=False)
class BatchDecider:
    """Decides on batches.

    Attributes
    ----------
    histories : looks histories up; None if the model reads none
    application_only : decides where no history is known; None where `model` does
    refuse : whether rows without a known history are rejected
    """

    model: StoredModel
    with_reasons: bool
    histories: HistoryFiller | None = None
    application_only: StoredModel | None = None
    refuse: bool = False
    counts: BatchCounts = field(default_factory=BatchCounts)
    times: StageTimes = field(default_factory=StageTimes)

    def decide(self, batch: RowBatch, identifiers: pa.ChunkedArray[Any], rows: _Rows) -> DecidedBatch:
        """The decisions on those of `rows` that break no rule. StoreDownError or BatchError as of `HistoryFiller`."""
        if self.histories is None:
            return self._decided(batch, [(self.model, rows)])
        with self.times.stage("histories"):
            sound = sound_rows(batch)
            wanted = sound if rows is None else sound & rows
            sources = self.histories.fill(batch.columns, identifiers, wanted)
        unknown = wanted & unknown_rows(sources)
        if self.refuse:
            batch = with_refusals(batch, sources, unknown)
        decided = self._decided(batch, self._divided(rows, unknown))
        found = sources[decided.scored]
        self.counts.histories.update(source_counts(found))
        return replace(decided, table=decided.table.append_column(HISTORY, source_column(found)))

    def _divided(self, rows: _Rows, unknown: NDArray[np.bool_]) -> list[tuple[StoredModel, _Rows]]:
        """The models, and the rows that each decides on."""
        if self.application_only is None or not unknown.any():
            return [(self.model, rows)]
        others = ~unknown if rows is None else rows & ~unknown
        return [(self.model, others), (self.application_only, unknown)]

    def _decided(self, batch: RowBatch, divided: list[tuple[StoredModel, _Rows]]) -> DecidedBatch:
        with self.times.stage("score"):
            found = [decide(batch, model, rows=rows, with_reasons=self.with_reasons) for model, rows in divided]
        with self.times.stage("count"):
            for decided, (_, rows) in zip(found, divided, strict=True):
                self.counts.add(batch, decided, rows)
        if len(found) == 1:
            return DecidedBatch(batch, found[0].scored, found[0].table)
        order = np.argsort(np.concatenate([np.flatnonzero(decided.scored) for decided in found]))
        table = pa.concat_tables([decided.table for decided in found]).take(pa.array(order))
        return DecidedBatch(batch, np.any([decided.scored for decided in found], axis=0), table)


DECISIONS = pa.schema([("status", pa.string()), *decided_types(with_reasons=True).items(), ("errors", _ERRORS)])
"""The columns that `TableScorer` tells of each application, after those that are carried over."""


class TableScorer:
    """Decides tables of applications by a model; the columns `carry` go over into the decisions, in front of them."""

    def __init__(self, model: StoredModel, *, carry: Sequence[str] = ()) -> None:
        self.model = model
        self.carry = tuple(carry)

    def score(self, table: pa.Table | pa.RecordBatch) -> pa.RecordBatch:
        """The decisions on the rows of a table, in their order: the columns `carry`, then those of `DECISIONS`.

        A row that breaks a declared rule is `rejected`, has its `errors` and nothing else. ColumnsError if a declared
        column or one of `carry` is absent.
        """
        portfolio = self.model.scorer.artefact.portfolio
        wanted = (*read_from(table.schema.names, portfolio), *self.carry)
        if absent := [name for name in wanted if name not in table.schema.names]:
            more = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
            raise ColumnsError(f"column missing: {', '.join(absent[:_LISTED])}{more}")
        whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        batch = read_table(whole, portfolio, others=self.carry)
        decided = decide(batch, self.model)
        places = pa.array(np.cumsum(decided.scored) - 1, mask=~decided.scored)
        columns = {
            **{name: batch.others[name] for name in self.carry},
            **{name: decided.table[name].take(places) for name in decided.table.column_names},
            "status": _status(decided.scored),
            "errors": errors_of(batch, np.arange(len(batch))),
        }
        carried = [table.schema.field(name) for name in self.carry]
        schema = pa.schema([*carried, *DECISIONS])
        return pa.RecordBatch.from_arrays([_one_array(columns[name]) for name in schema.names], schema=schema)


@cache
def table_scorer(folder: str, *, carry: tuple[str, ...] = ()) -> TableScorer:
    """The scorer of the model in a folder, loaded once in a process; ArtefactError as in `load_folder`."""
    return TableScorer(load_folder(Path(folder)), carry=carry)


def _status(scored: NDArray[np.bool_]) -> pa.Array:
    words = pa.array(["rejected", "scored"])
    return words.take(pa.array(scored.astype(np.int8)))


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
