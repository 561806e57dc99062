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
from itertools import pairwise
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
        yield from _unplayed_lines(self.unplayed)
        if self.other_reasons:
            yield f"note: reasons are of another reference group: {self.other_reasons:,} declines are not comparable"
        if self.without_reasons:
            yield f"note: {self.without_reasons:,} declines were recorded without reasons"
        yield f"{self.replayed:,} of {self.decisions:,} decisions replayed; {self.different:,} differ"


def replay(log: DecisionLogReader, advance: Callable[[int], object] = lambda _: None) -> Replayed:
    """Compute every decision of a log again with the stored version of the model that made it.

    SourceError if the log has no decision.
    """
    return _over_segments(log, _replayed, Replayed(), advance)


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
        "reasons": _codes(scores.reasons),
        "digest": np.full(rows, artefact.digest, dtype=object),
        "policy": np.full(rows, artefact.policy_version, dtype=object),
    }


def _lengths(tuples: NDArray[np.object_]) -> NDArray[np.int64]:
    return np.fromiter(map(len, tuples.tolist()), np.int64, len(tuples))


def _codes(reasons: NDArray[np.object_]) -> NDArray[np.object_]:
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


def _over_segments(
    log: DecisionLogReader,
    work: Callable[[DecisionLogReader, Path], _Found],
    total: _Found,
    advance: Callable[[int], object],
) -> _Found:
    """Add up what is found in each segment; SourceError if that is no decision."""
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
    for loaded in (_recording_scorer, _recording_artefact, _scorer):
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


_KINDS = tuple(DecisionKind)
_CHANGES = tuple((was, now) for was in range(len(_KINDS)) for now in range(len(_KINDS)) if was != now)
_BANDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""The lowest PDs of all bands but the first."""
_STEPS = 10_000
"""Shifts are counted in steps of 1 / 10,000, from -1 to 1: so a log of any length needs the same memory."""


@dataclass(frozen=True, slots=True)
class BandShift:
    """What another model changes in a band of recorded PDs.

    Attributes
    ----------
    mean, low, high : of the other PD less the recorded one: its mean, its 5th and its 95th percentile; NaN without rows
    flips : how many decisions change, by the one recorded and the other
    declines : that both models decline and give reasons for
    first_reason_changes : of these, those with another first reason
    """

    name: str
    decisions: int
    mean: float
    low: float
    high: float
    flips: Mapping[tuple[DecisionKind, DecisionKind], int]
    declines: int
    first_reason_changes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; null for the shift of no decision."""
        shift = {"mean": self.mean, "percentile_5": self.low, "percentile_95": self.high} if self.decisions else None
        return {
            "recorded_pd": self.name,
            "decisions": self.decisions,
            "shift": shift,
            "flips": {f"{was} to {now}": count for (was, now), count in self.flips.items()},
            "declines": self.declines,
            "first_reason_changes": self.first_reason_changes,
        }


class Shifts:
    """What another model makes of recorded decisions, counted by bands of the recorded PD.

    Attributes
    ----------
    decisions : that were read
    compared : of them, those that the other model can decide
    unplayed : how many decisions of each model it cannot
    newly_known : decisions with a level that the recording model did not know and the other one may
    at_bounds : compared decisions with a value at which the two models clip differently
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.decisions = 0
        self.unplayed: Counter[UnplayedModel] = Counter()
        self.newly_known = 0
        self.at_bounds = 0
        bands = len(_BANDS) + 1
        self._shifts = np.zeros((bands, 2 * _STEPS + 1), dtype=np.int64)
        self._sums = np.zeros(bands)
        self._changes = np.zeros((bands, len(_KINDS), len(_KINDS)), dtype=np.int64)
        self._reasons = np.zeros((bands, 2), dtype=np.int64)

    @property
    def compared(self) -> int:
        """How many decisions the other model was asked for."""
        return int(self._shifts.sum())

    def include(self, other: Self) -> None:
        """Add what was found in a later segment."""
        self.decisions += other.decisions
        self.unplayed += other.unplayed
        self.newly_known += other.newly_known
        self.at_bounds += other.at_bounds
        self._shifts += other._shifts
        self._sums += other._sums
        self._changes += other._changes
        self._reasons += other._reasons

    def count(self, table: pa.Table, translated: TranslatedRows, scorer: Scorer) -> None:
        """Decide the rows with the other model, and count what changes."""
        self.newly_known += table.num_rows - len(translated.matrix)
        self.at_bounds += int(np.count_nonzero(translated.at_bounds))
        table = table.filter(translated.kept)
        scores = scorer.score_matrix(translated.matrix)
        recorded = table["probability"].to_numpy()
        band, shift = np.searchsorted(_BANDS, recorded, side="right"), scores.probability - recorded
        np.add.at(self._shifts, (band, np.rint((shift + 1) * _STEPS).astype(np.intp)), 1)
        self._sums += np.bincount(band, weights=shift, minlength=len(self._sums))
        was, now = (_kinds(each) for each in (policy_decisions(table), scores.decision))
        np.add.at(self._changes, (band, was, now), 1)
        if "reasons" in table.column_names:
            self._count_reasons(band, _texts(table["reasons"]), scores)

    def _count_reasons(self, band: NDArray[np.intp], recorded: NDArray[np.object_], scores: Scores) -> None:
        for place, before, after in zip(band.tolist(), recorded.tolist(), scores.reasons.tolist(), strict=True):
            if before and after:
                self._reasons[place] += (1, before.split(" ", 1)[0] != after[0].code)

    def bands(self) -> list[BandShift]:
        """Each band with decisions, and last all of them."""
        names = [f"{low:g} to {high:g}" for low, high in pairwise((0, *_BANDS, 1))]
        found = [self._band(name, slice(i, i + 1)) for i, name in enumerate(names)]
        return [*(each for each in found if each.decisions), self._band("all", slice(None))]

    def _band(self, name: str, rows: slice) -> BandShift:
        counts, changes = self._shifts[rows].sum(axis=0), self._changes[rows].sum(axis=0)
        declines, changed = self._reasons[rows].sum(axis=0).tolist()
        count = int(counts.sum())
        low, high = (_percentile(counts, share) for share in (0.05, 0.95))
        return BandShift(
            name,
            count,
            float(self._sums[rows].sum()) / count if count else np.nan,
            low,
            high,
            {(_KINDS[was], _KINDS[now]): int(changes[was, now]) for was, now in _CHANGES},
            declines,
            changed,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "model": self.tag,
            "decisions": self.decisions,
            "compared": self.compared,
            "newly_known_levels": self.newly_known,
            "values_at_bounds": self.at_bounds,
            "bands": [band.to_dict() for band in self.bands()],
            "not_replayable": _unplayed_dicts(self.unplayed),
        }

    def notes(self) -> Iterator[str]:
        """What the figures leave out, one line each."""
        yield from _unplayed_lines(self.unplayed)
        if self.newly_known:
            yield f"{self.newly_known:,} decisions left out: they have a level that only the other model may know"
        if self.at_bounds:
            yield f"{self.at_bounds:,} decisions have a value where the two models clip differently: approximate"

    @property
    def summary(self) -> str:
        """One line."""
        flipped = sum(self.bands()[-1].flips.values())
        return f"{self.compared:,} of {self.decisions:,} decisions replayed with {self.tag}; {flipped:,} change"


def _percentile(counts: NDArray[np.int64], share: float) -> float:
    """The least shift that this share of the decisions does not exceed, to one ten-thousandth."""
    if not counts.any():
        return np.nan
    return float(np.searchsorted(counts.cumsum(), share * counts.sum()) - _STEPS) / _STEPS


def _kinds(decisions: NDArray[np.object_]) -> NDArray[np.intp]:
    return np.select([decisions == kind for kind in _KINDS], np.arange(len(_KINDS))[:, None]).astype(np.intp)


def compare(log: DecisionLogReader, tag: str, advance: Callable[[int], object] = lambda _: None) -> Shifts:
    """Decide the recorded applications with another model of the store.

    ArtefactError if it is not there or cannot be used, SourceError if the log has no decision.
    """
    name, version, _ = load_artefact(tag)
    exact = f"{name}:{version}"
    return _over_segments(log, partial(_compared, exact), Shifts(exact), advance)


def _compared(tag: str, log: DecisionLogReader, path: Path) -> Shifts:
    found, scorer = Shifts(tag), _scorer(tag)
    for header, table in log.recorded(path, _READ):
        found.decisions += table.num_rows
        translation = _translation(header, scorer)
        if isinstance(translation, UnplayedModel):
            found.unplayed[translation] += table.num_rows
            continue
        for start in range(0, table.num_rows, _BLOCK_ROWS):
            block = table.slice(start, _BLOCK_ROWS)
            found.count(block, translation.of(_matrix(block, header)), scorer)
    return found


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


def _unplayed_lines(unplayed: Mapping[UnplayedModel, int]) -> Iterator[str]:
    for model, count in unplayed.items():
        yield f"not replayable: {count:,} decisions of {model.tag}: {model.reason}"
