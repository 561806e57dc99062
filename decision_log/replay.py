"""Replays recorded decisions: with the model that made them, bit for bit, or with another one, to see what changes.

A vector is what its own model read. Another model can read it if it takes the same features, by the same formulas.
Category codes are translated by the levels behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import EXPLORED, FEATURE_PREFIX, Header
from decision_log.reader import DecisionLogReader
from features.errors import ColumnsError
from jobs.commandline import in_processes
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.policy import DecisionKind
from scoring.scorer import Scorer, Scores, TranslatedRows, Translation, same_features
from scoring.store import load_artefact, load_stored

if TYPE_CHECKING:
    import pyarrow as pa

Matrix = NDArray[np.float64]
Rows = NDArray[np.bool_]

_COMPARED = (
    "margin", "probability", "prediction", "decision", "risk_level", "missing", "unknown", "withheld", "reasons",
    "digest", "policy",
)  # fmt: skip
_READ = ("request_id", "index", "client", EXPLORED, *_COMPARED)
_BLOCK_ROWS = 16_384
_FEW_BYTES = 1 << 25
"""A log of fewer bytes is replayed in this process: starting others would take longer."""
_FIRST = 10
"""Differences that are told one by one."""


@dataclass(frozen=True, slots=True)
class DifferentDecision:
    """A decision that was computed again otherwise than it is recorded, and the fields that differ."""

    request_id: str
    index: int
    fields: tuple[str, ...]


class UnplayedModel(NamedTuple):
    """A model whose decisions cannot be replayed, and why."""

    tag: str
    reason: str


class _Finding(Protocol):
    """What is found in one segment, and added up over a log."""

    decisions: int

    def include(self, other: Any) -> None: ...


_Found = TypeVar("_Found", bound=_Finding)
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Replayed:
    """What a replay with the recording models found.

    Attributes
    ----------
    decisions : that were read
    different : of them, those with a field that differs
    fields : how many decisions differ in each field
    first : the first ten that differ, in the order of the log
    unplayed : how many decisions of each model cannot be replayed
    other_reasons : declines whose reasons are of another reference group than the model's
    without_reasons : declines that were recorded without reasons
    """

    decisions: int = 0
    different: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    first: list[DifferentDecision] = field(default_factory=list)
    unplayed: Counter[UnplayedModel] = field(default_factory=Counter)
    other_reasons: int = 0
    without_reasons: int = 0

    @property
    def replayed(self) -> int:
        """How many decisions were computed again."""
        return self.decisions - self.unplayed.total()

    @property
    def proven(self) -> bool:
        """Whether decisions were computed again, and all of them are as recorded."""
        return self.replayed > 0 and not self.different

    def include(self, other: Self) -> None:
        """Add what was found in a later segment."""
        self.decisions += other.decisions
        self.different += other.different
        self.fields += other.fields
        self.first = [*self.first, *other.first][:_FIRST]
        self.unplayed += other.unplayed
        self.other_reasons += other.other_reasons
        self.without_reasons += other.without_reasons

    def hold(self, table: pa.Table, header: Header, scorer: Scorer) -> None:
        """Compute decisions again and hold them against their records."""
        matrix = _matrix(table, header)
        with_reasons = self._reasons_compared(table, header, scorer)
        scores = scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=with_reasons)
        if (explored := explored_rows(table)).any():
            clients = table["client"].to_pylist()
            # What is recorded as explored and was not drawn stays a decline here, and so differs.
            scores = scores.approved(explored & scorer.explored(matrix, scores, clients.__getitem__)[1])
        expected = _expected(scores, scorer.artefact)
        # Where the segment names no explanation, its records must hold no reasons.
        held = [name for name in table.column_names if name in expected]
        if header.explained_by and not with_reasons:
            held.remove("reasons")
        differs = {name: _differs(table[name], expected[name]) for name in held}
        rows = np.logical_or.reduce(list(differs.values()))
        self.different += int(np.count_nonzero(rows))
        self.fields += Counter({name: int(np.count_nonzero(each)) for name, each in differs.items()})
        for row in np.flatnonzero(rows)[: _FIRST - len(self.first)].tolist():
            named = tuple(name for name, each in differs.items() if each[row])
            self.first.append(DifferentDecision(table["request_id"][row].as_py(), table["index"][row].as_py(), named))

    def _reasons_compared(self, table: pa.Table, header: Header, scorer: Scorer) -> bool:
        """Whether the model gives the reasons that were recorded; if not, the declines are counted."""
        own = "" if scorer.artefact.reasons is None else scorer.artefact.reasons.version
        if header.explained_by == own:
            return bool(own)
        declines = int(np.count_nonzero(_texts(table["decision"]) == DecisionKind.DECLINE))
        if header.explained_by:
            self.other_reasons += declines
        else:
            self.without_reasons += declines
        return False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; no value of an applicant is in it."""
        return {
            "decisions": self.decisions,
            "replayed": self.replayed,
            "different": self.different,
            "fields": {name: self.fields[name] for name in _COMPARED},
            "first": [asdict(each) for each in self.first],
            "declines_of_another_reference_group": self.other_reasons,
            "declines_without_recorded_reasons": self.without_reasons,
            "not_replayable": _unplayed_dicts(self.unplayed),
        }

    def lines(self) -> Iterator[str]:
        """What is told on a terminal."""
        for each in self.first:
            yield f"differs: {each.request_id} {each.index}: {', '.join(each.fields)}"
        for name in _COMPARED:
            if count := self.fields[name]:
                yield f"{name} differs in {count:,} decisions"
        yield from unplayed_lines(self.unplayed)
        if self.other_reasons:
            yield f"note: reasons are of another reference group: {self.other_reasons:,} declines are not comparable"
        if self.without_reasons:
            yield f"note: {self.without_reasons:,} declines were recorded without reasons"
        yield f"{self.replayed:,} of {self.decisions:,} decisions replayed; {self.different:,} differ"


def replay(log: DecisionLogReader, advance: Callable[[int], object] = lambda _: None) -> Replayed:
    """Compute every decision of a log again with the stored version of the model that made it.

    SourceError if the log has no decision.
    """
    return over_segments(log, _replayed, Replayed(), advance)


def _replayed(log: DecisionLogReader, path: Path) -> Replayed:
    found = Replayed()
    for header, table in log.recorded(path, _READ):
        found.decisions += table.num_rows
        model = _recording_scorer(_tag(header), header.digest)
        if isinstance(model, UnplayedModel):
            found.unplayed[model] += table.num_rows
            continue
        for start in range(0, table.num_rows, _BLOCK_ROWS):
            found.hold(table.slice(start, _BLOCK_ROWS), header, model)
    return found


def _tag(header: Header) -> str:
    return f"{header.model}:{header.model_version}"


@cache
def _recording_scorer(tag: str, digest: str) -> Scorer | UnplayedModel:
    artefact = _recording_artefact(tag, digest)
    if isinstance(artefact, UnplayedModel):
        return artefact
    try:
        return _scorer(tag)
    except ArtefactError as error:  # this code computes something else than the code that trained it
        return UnplayedModel(tag, str(error))


@cache
def _recording_artefact(tag: str, digest: str) -> Artefact | UnplayedModel:
    """The artefact of the exact version that is recorded, or why it cannot be had."""
    try:
        artefact = load_artefact(tag)[2]
    except ArtefactError as error:
        return UnplayedModel(tag, str(error))
    other = "the store has it with another digest than the recorded one"
    return artefact if artefact.digest == digest else UnplayedModel(tag, other)


@cache
def _scorer(tag: str) -> Scorer:
    return load_stored(tag).scorer


def _matrix(table: pa.Table, header: Header) -> Matrix:
    return np.column_stack([table[f"{FEATURE_PREFIX}{name}"].to_numpy() for name in header.features])


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    return np.asarray(column.cast("string").to_numpy(zero_copy_only=False), dtype=object)


def explored_rows(table: pa.Table) -> Rows:
    """Which decisions are recorded as approved at random, shape (n,)."""
    if EXPLORED not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.bool_)
    return np.asarray(table[EXPLORED].fill_null(False).to_numpy(), dtype=np.bool_)


def policy_decisions(table: pa.Table) -> NDArray[np.object_]:
    """The decisions without chance: what was approved at random is the decline that it would have been."""
    found = _texts(table["decision"])
    return np.where(explored_rows(table), np.array(str(DecisionKind.DECLINE), dtype=object), found)


def _expected(scores: Scores, artefact: Artefact) -> dict[str, NDArray[Any]]:
    """The fields of records, as this model gives them."""
    rows = len(scores)
    return {
        "margin": scores.margin,
        "probability": scores.probability,
        "prediction": scores.prediction,
        "decision": scores.decision,
        "risk_level": scores.risk_level,
        "missing": scores.missing,
        "unknown": _lengths(scores.unknown),
        "withheld": _lengths(scores.withheld) > 0,
        "reasons": reason_codes(scores.reasons),
        "digest": np.full(rows, artefact.digest, dtype=object),
        "policy": np.full(rows, artefact.policy_version, dtype=object),
    }


def _lengths(tuples: NDArray[np.object_]) -> NDArray[np.int64]:
    return np.fromiter(map(len, tuples.tolist()), np.int64, len(tuples))


def reason_codes(reasons: NDArray[np.object_]) -> NDArray[np.object_]:
    """The codes of the reasons of each decision as they are recorded: one text, with blanks between them."""
    return np.array([" ".join([reason.code for reason in one]) for one in reasons.tolist()], dtype=object)


def _differs(recorded: pa.ChunkedArray, computed: NDArray[Any]) -> Rows:
    """Where a recorded value is not the computed one, bit for bit; nothing is compared where none is recorded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if computed.dtype == np.float64:
        return np.asarray(recorded.to_numpy().view(np.int64) != computed.view(np.int64))
    kind = pa.string() if computed.dtype == object else pa.from_numpy_dtype(computed.dtype)
    unequal = pc.not_equal(recorded.cast(kind), pa.array(computed, kind))
    return np.asarray(pc.fill_null(unequal, False).to_numpy(), dtype=np.bool_)


def over_segments(
    log: DecisionLogReader,
    work: Callable[[DecisionLogReader, Path], _Found],
    total: _Found,
    advance: Callable[[int], object],
) -> _Found:
    """Add up what is found in each segment, a long log on all processors; SourceError if that is no decision."""
    for found, passed_over in _each(partial(_with_remarks, log, work), log.segments()):
        total.include(found)
        log.passed_over.update(passed_over)
        advance(found.decisions)
    if not total.decisions:
        raise SourceError(f"{log.directory}: no decision of this time")
    return total


def _each(work: Callable[[Path], _Result], paths: Sequence[Path]) -> Iterable[_Result]:
    if len(paths) > 1 and sum(map(_bytes, paths)) >= _FEW_BYTES:
        return in_processes(work, paths)
    # What these keep holds for one run: between two, models come into the store and leave it.
    for loaded in (_recording_scorer, _recording_artefact, _scorer, _folder_scorer):
        loaded.cache_clear()
    return map(work, paths)


def _bytes(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _with_remarks(
    log: DecisionLogReader, work: Callable[[DecisionLogReader, Path], _Found], path: Path
) -> tuple[_Found, dict[Path, str]]:
    return work(log, path), log.passed_over


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A model that decides recorded applications again; it is in a folder or, without one, in the BentoML store."""

    tag: str
    digest: str
    folder: Path | None = None

    @classmethod
    def stored(cls, tag: str) -> Self:
        """The model of this tag in the BentoML store; ArtefactError if it is not there or is damaged."""
        name, version, artefact = load_artefact(tag)
        return cls(f"{name}:{version}", artefact.digest)

    @property
    def scorer(self) -> Scorer:
        """The model made ready to score; ArtefactError if it cannot be used."""
        return _scorer(self.tag) if self.folder is None else _folder_scorer(self.folder, self.digest)


@cache
def _folder_scorer(folder: Path, digest: str) -> Scorer:
    return Scorer(Artefact.read(folder, digest=digest))


@dataclass(frozen=True, slots=True, eq=False)
class Redecided:
    """A block of records, and what another model makes of the rows that it can decide.

    Attributes
    ----------
    table : recorded columns and vectors of these rows
    scores : of the other model, in the same order
    left_out : rows with a level that the recording model did not know and the other one may
    at_bounds : rows of the table with a value at which the two models clip differently
    """

    table: pa.Table
    scores: Scores
    left_out: int
    at_bounds: int


def redecide(
    log: DecisionLogReader,
    path: Path,
    columns: Sequence[str],
    model: OtherModel,
    chosen: Callable[[pa.Table], pa.Table],
) -> Iterator[tuple[int, Redecided | UnplayedModel]]:
    """Decide the `chosen` records of one segment with another model, in blocks, each with its number of rows.

    A block of a model whose vectors the other one cannot read says why instead. ArtefactError if the other model cannot
    be used.
    """
    scorer = model.scorer
    for header, table in log.recorded(path, columns):
        rows = chosen(table)
        translation = _translation(header, scorer)
        if isinstance(translation, UnplayedModel):
            yield rows.num_rows, translation
            continue
        for start in range(0, rows.num_rows, _BLOCK_ROWS):
            block = rows.slice(start, _BLOCK_ROWS)
            yield block.num_rows, _redecided(block, translation.of(_matrix(block, header)), scorer)


def _redecided(block: pa.Table, translated: TranslatedRows, scorer: Scorer) -> Redecided:
    left_out, at_bounds = block.num_rows - len(translated.matrix), int(np.count_nonzero(translated.at_bounds))
    return Redecided(block.filter(translated.kept), scorer.score_matrix(translated.matrix), left_out, at_bounds)


def _translation(header: Header, scorer: Scorer) -> Translation | UnplayedModel:
    recorded = _recording_artefact(_tag(header), header.digest)
    if isinstance(recorded, UnplayedModel):
        return recorded
    try:
        same_features(header.features, recorded.features.names)
        return Translation(recorded.features, scorer)
    except ColumnsError as error:
        return UnplayedModel(_tag(header), str(error))


def _unplayed_dicts(unplayed: Mapping[UnplayedModel, int]) -> list[dict[str, Any]]:
    return [{"model": model.tag, "decisions": count, "reason": model.reason} for model, count in unplayed.items()]


def unplayed_lines(unplayed: Mapping[UnplayedModel, int]) -> Iterator[str]:
    """The decisions that cannot be replayed, one line for each model."""
    for model, count in unplayed.items():
        yield f"not replayable: {count:,} decisions of {model.tag}: {model.reason}"
