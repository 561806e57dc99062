"""Recorded decisions beside those of a challenger, before it sees traffic: who would be decided otherwise, and why.

A challenger decides the recorded vectors again, or its own records as a shadow are joined. Figures hold counts and
means alone; no value of an applicant is in them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import CHAMPION, EXPLORED, FEATURE_PREFIX
from decision_log.reader import DecisionLogReader
from decision_log.replay import (
    OtherModel,
    UnplayedModel,
    explored_rows,
    over_segments,
    reason_codes,
    redecide,
    unplayed_lines,
)
from monitoring.fairness import GroupShift, ProtectedGroups, shifts_of_groups
from monitoring.outcomes import (
    UNKNOWN,
    Keys,
    Outcomes,
    decision_codes,
    decision_keys,
    move_into_one,
    places,
    request_keys,
    unmatched,
)
from monitoring.realised import ChallengerOutcomes, EqualApprovals, challenger_outcomes, estimated_at_equal_approvals
from monitoring.settings import ComparisonSettings, MonitoringSettings
from monitoring.sources import ChallengerRows, ShadowDecisions, texts_of
from scoring.policy import DecisionKind

if TYPE_CHECKING:
    import pyarrow as pa

_READ = ("request_id", "index", "client", "time", "variant", EXPLORED, "probability", "decision", "reasons")
_KINDS = tuple(DecisionKind)
_APPROVE = _KINDS.index(DecisionKind.APPROVE)
_DECLINE = np.int8(_KINDS.index(DecisionKind.DECLINE))
_CHANGES = tuple((was, now) for was in range(len(_KINDS)) for now in range(len(_KINDS)) if was != now)
_COMPARED, _OTHER_FIRST, _OTHER_SET = 1, 2, 4
"""Of a decline by both models: the reasons of both are known, the first one differs, the set of codes differs."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionPairs:
    """Recorded decisions and a challenger's, row by row; arrays have shape (n,).

    Attributes
    ----------
    recorded, other : PDs
    was, now : int8, positions in `DecisionKind`; what was approved at random is the decline that the policy made
    explored : bool, whether it was approved at random
    reasons : int8, whether the reasons of a decline are compared, and where they differ
    amount : of the application; NaN where it is missing or not recorded
    time : int64, microseconds since 1970
    clients, requests : keys of the applications, shape (n, 2); shape (0, 2) where no file names applications by them
    """

    # About 45 bytes a row, and 16 more for each kind of key: ten million decisions need less than 1 GB.

    recorded: NDArray[np.float64]
    other: NDArray[np.float64]
    was: NDArray[np.int8]
    now: NDArray[np.int8]
    explored: NDArray[np.bool_]
    reasons: NDArray[np.int8]
    amount: NDArray[np.float64]
    time: NDArray[np.int64]
    clients: Keys
    requests: Keys

    @classmethod
    def joined_from(cls, blocks: Iterable[DecisionPairs]) -> DecisionPairs:
        """The rows of all blocks, in their order; there must be a block."""
        blocks = list(blocks)
        return cls(*(move_into_one([getattr(block, one.name) for block in blocks]) for one in fields(cls)))

    def __len__(self) -> int:
        return len(self.recorded)

    def keys(self, by: str) -> Keys:
        """The keys that a side file of this kind names applications by."""
        return self.clients if by == "client_id" else self.requests


@dataclass(slots=True)
class PairedDecisions:
    """What was found in a log: the pairs, and what could not be paired.

    Attributes
    ----------
    tag : the challenger
    decisions : that were read
    of_others : made by another variant than the champion
    unplayed : how many decisions of each model the challenger cannot read
    left_out : decisions with a level that the recording model did not know and the challenger may
    at_bounds : compared decisions with a value at which the two models clip differently
    unshadowed : decisions that the shadow has not recorded, or not without doubt
    gained, lost : reason codes of declines by both models that only the challenger, or only the record, gives
    """

    tag: str
    decisions: int = 0
    of_others: int = 0
    unplayed: Counter[UnplayedModel] = field(default_factory=Counter)
    left_out: int = 0
    at_bounds: int = 0
    unshadowed: int = 0
    gained: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    blocks: list[DecisionPairs] = field(default_factory=list)

    def include(self, other: Self) -> None:
        """Add what was found in a later segment."""
        for one in fields(self):
            if one.name != "tag":
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def champions(self, table: pa.Table) -> pa.Table:
        """The rows that the champion decided; all are counted."""
        import pyarrow.compute as pc

        self.decisions += table.num_rows
        if "variant" not in table.column_names:
            return table
        # Records of an older format name no variant: there was but one.
        own: pa.ChunkedArray[Any] = pc.fill_null(pc.equal(table["variant"].cast("string"), CHAMPION), True)
        kept = table.filter(own)
        self.of_others += table.num_rows - kept.num_rows
        return kept

    def add(self, table: pa.Table, other: ChallengerRows, keys: PairKeys) -> None:
        """Add a block of records, and what the challenger makes of the same rows."""
        if not table.num_rows:
            return
        reasons = np.zeros(table.num_rows, dtype=np.int8)
        if "reasons" in table.column_names:
            reasons = self._compared_reasons(texts_of(table["reasons"]), other.reasons)
        explored, amount = explored_rows(table), f"{FEATURE_PREFIX}{keys.amount}"
        stated = table[amount].to_numpy() if amount in table.column_names else np.full(table.num_rows, np.nan)
        self.blocks.append(
            DecisionPairs(
                recorded=table["probability"].to_numpy(),
                other=other.probability,
                was=np.where(explored, _DECLINE, decision_codes(table["decision"])),
                now=other.decision,
                explored=explored,
                reasons=reasons,
                amount=stated,
                time=table["time"].cast("int64").to_numpy(),
                clients=keys.of("client_id", table),
                requests=keys.of("request_id", table),
            )
        )

    def _compared_reasons(self, before: NDArray[np.object_], after: NDArray[np.object_]) -> NDArray[np.int8]:
        flags = np.zeros(len(before), dtype=np.int8)
        for row, (was, now) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
            if was and now:
                old, new = was.split(" "), now.split(" ")
                gained, lost = set(new) - set(old), set(old) - set(new)
                self.gained.update(gained)
                self.lost.update(lost)
                flags[row] = _COMPARED | _OTHER_FIRST * (old[0] != new[0]) | _OTHER_SET * bool(gained or lost)
        return flags

    def pairs(self) -> DecisionPairs:
        """All pairs; SourceError if there is none."""
        if not self.blocks:
            raise SourceError("; ".join([f"no decision can be compared with {self.tag}", *self.notes()]))
        return DecisionPairs.joined_from(self.blocks)

    def notes(self) -> Iterator[str]:
        """What the figures leave out, one line each."""
        yield from unplayed_lines(self.unplayed)
        for count, what in (
            (self.of_others, "decisions left out: another variant made them"),
            (self.left_out, "decisions left out: they have a level that only the challenger may know"),
            (self.unshadowed, "decisions left out: the shadow has no record of them, or several that differ"),
            (self.at_bounds, "decisions have a value where the two models clip differently: approximate"),
        ):
            if count:
                yield f"{count:,} {what}"


@dataclass(frozen=True, slots=True)
class PairKeys:
    """What is kept of each application beside the decisions: its amount, and the keys that side files name it by."""

    amount: str | None
    by: frozenset[str]

    def of(self, name: str, table: pa.Table) -> Keys:
        """The keys of this kind, shape (n, 2); of no rows where no file needs them."""
        return decision_keys(name, table) if name in self.by else np.empty((0, 2), dtype=np.uint64)


def decided_again(
    log: DecisionLogReader, model: OtherModel, keys: PairKeys, advance: Callable[[int], object] = lambda _: None
) -> PairedDecisions:
    """Decide the recorded applications with another model; SourceError if the log has no decision."""
    return over_segments(log, partial(_redecided, model, keys), PairedDecisions(model.tag), advance)


def _redecided(model: OtherModel, keys: PairKeys, log: DecisionLogReader, path: Path) -> PairedDecisions:
    found = PairedDecisions(model.tag)
    for rows, made in redecide(log, path, _READ, model, found.champions):
        if isinstance(made, UnplayedModel):
            found.unplayed[made] += rows
            continue
        found.left_out += made.left_out
        found.at_bounds += made.at_bounds
        decision = np.array([_KINDS.index(one) for one in made.scores.decision.tolist()], dtype=np.int8)
        challenger = ChallengerRows(made.scores.probability, decision, reason_codes(made.scores.reasons))
        found.add(made.table, challenger, keys)
    return found


def shadow_joined(
    log: DecisionLogReader, shadow: ShadowDecisions, keys: PairKeys, advance: Callable[[int], object] = lambda _: None
) -> PairedDecisions:
    """Join what a shadow recorded to the decisions of the log; SourceError if the log has none."""
    found = PairedDecisions(shadow.tag)
    for path in log.segments():
        for _, table in log.recorded(path, _READ):
            advance(table.num_rows)
            rows = found.champions(table)
            place = places(shadow.keys, request_keys(rows))
            there = place >= 0
            found.unshadowed += int(np.count_nonzero(~there))
            found.add(rows.filter(there), shadow.rows.take(place[there]), keys)
    if not found.decisions:
        raise SourceError(f"{log.directory}: no decision of this time")
    return found


@dataclass(frozen=True, slots=True)
class Flip:
    """How many decisions change from one kind to another, and the sum of their amounts.

    The sum is None where no amount is recorded, and where it is of too few people to be told.
    """

    was: DecisionKind
    now: DecisionKind
    decisions: int
    amount: float | None


@dataclass(frozen=True, slots=True)
class BandShift:
    """What a challenger changes in a band of recorded PDs.

    Attributes
    ----------
    challengers : decisions whose challenger's PD is in this band
    mean, low, high : of the challenger's PD less the recorded one: its mean, its 5th and its 95th percentile; NaN where
        they are of too few people to be told
    flips : the decisions that change, one entry for each pair of kinds
    declines : that both models decline and give reasons for
    first_reason_changes, reason_set_changes : of these, those with another first reason, and with another set of codes
    """

    name: str
    decisions: int
    challengers: int
    mean: float
    low: float
    high: float
    flips: tuple[Flip, ...]
    declines: int
    first_reason_changes: int
    reason_set_changes: int

    @property
    def approvals_changed(self) -> tuple[int, int]:
        """How many decisions become approvals, and how many are none any more."""
        gained = sum(flip.decisions for flip in self.flips if flip.now is DecisionKind.APPROVE)
        lost = sum(flip.decisions for flip in self.flips if flip.was is DecisionKind.APPROVE)
        return gained, lost

    @classmethod
    def of(cls, name: str, pairs: DecisionPairs, rows: NDArray[np.bool_], challengers: int, *, fewest: int) -> Self:
        """The shift of the chosen rows, one at least; values that less than `fewest` people are behind are left out."""
        shift, reasons = (pairs.other - pairs.recorded)[rows], pairs.reasons[rows]
        mean = low = high = math.nan
        if len(shift) >= fewest:
            mean = float(shift.mean())
            low, high = np.quantile(shift, (0.05, 0.95), method="inverted_cdf").tolist()
        counts = [int(np.count_nonzero(reasons & flag)) for flag in (_COMPARED, _OTHER_FIRST, _OTHER_SET)]
        flips = tuple(_flips(pairs, rows, fewest))
        return cls(name, len(shift), challengers, mean, low, high, flips, *counts)


def _flips(pairs: DecisionPairs, rows: NDArray[np.bool_], fewest: int) -> Iterator[Flip]:
    stated = bool(np.isfinite(pairs.amount).any())
    for was, now in _CHANGES:
        changed = rows & (pairs.was == was) & (pairs.now == now)
        count = int(np.count_nonzero(changed))
        told = stated and not 0 < count < fewest
        yield Flip(_KINDS[was], _KINDS[now], count, float(np.nansum(pairs.amount[changed])) if told else None)


@dataclass(frozen=True, slots=True)
class CodeChange:
    """In how many declines by both models only the challenger gives a reason code, and only the record does."""

    code: str
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class ChallengerComparison:
    """A challenger beside the champion on recorded applications.

    Attributes
    ----------
    tag : the challenger
    decisions, compared : that were read, and of them those that are compared
    amount : the feature whose sums are told; None where it is not recorded
    bands : of recorded PDs with decisions, and last all of them
    codes : reason codes gained and lost, the most changed first
    groups : approvals by protected group, by attribute
    estimated : default rates at equal approvals, by the PDs of either model
    realised : the same by outcomes; None without any
    notes : what the figures leave out
    """

    tag: str
    decisions: int
    compared: int
    amount: str | None
    bands: tuple[BandShift, ...]
    codes: tuple[CodeChange, ...]
    groups: Mapping[str, tuple[GroupShift, ...]]
    estimated: tuple[EqualApprovals, ...]
    realised: ChallengerOutcomes | None
    notes: tuple[str, ...]

    @property
    def flips(self) -> int:
        """How many decisions change."""
        return sum(flip.decisions for flip in self.bands[-1].flips)

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.compared:,} of {self.decisions:,} decisions compared with {self.tag}; {self.flips:,} change"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; null for what is no number."""
        known: dict[str, Any] = _finite({**asdict(self), "flips": self.flips})
        return known


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinite numbers, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def comparison(
    found: PairedDecisions,
    settings: MonitoringSettings,
    *,
    amount: str | None = None,
    protected: ProtectedGroups | None = None,
    outcomes: Outcomes | None = None,
) -> ChallengerComparison:
    """Compare what was paired; SourceError if nothing was, or if no decision has a group or an outcome in the files."""
    pairs = found.pairs()
    notes = list(found.notes())
    stated = amount if np.isfinite(pairs.amount).any() else None
    if amount is not None and stated is None:
        notes.append(f"no amounts: the vectors of these records have no feature {amount}")
    approved = pairs.was == _APPROVE
    groups: dict[str, tuple[GroupShift, ...]] = {}
    if protected is not None:
        place = _placed(protected.by, protected.keys, protected.floats, pairs)
        there = place >= 0
        notes += [f"{np.count_nonzero(~there):,} decisions of applicants without a group"] if not there.all() else []
        for name in protected.groups:
            groups[name] = shifts_of_groups(
                name, protected, place[there], approved[there], (pairs.now == _APPROVE)[there],
                settings=settings.fairness, min_people=settings.comparison.min_people,
            )  # fmt: skip
    return ChallengerComparison(
        tag=found.tag,
        decisions=found.decisions,
        compared=len(pairs),
        amount=stated,
        bands=tuple(_bands(pairs, settings.comparison)),
        codes=_codes(found),
        groups=groups,
        estimated=estimated_at_equal_approvals(approved, pairs.recorded, pairs.other, settings.performance.confidence),
        realised=None if outcomes is None else _realised(pairs, outcomes, settings),
        notes=tuple(notes),
    )


def _bands(pairs: DecisionPairs, settings: ComparisonSettings) -> Iterator[BandShift]:
    bounds, make = settings.bands, partial(BandShift.of, fewest=settings.min_people)
    recorded, other = (np.searchsorted(bounds, pd, side="right") for pd in (pairs.recorded, pairs.other))
    for number, (low, high) in enumerate(pairwise((0, *bounds, 1))):
        rows = recorded == number
        if rows.any():
            yield make(f"{low:g} to {high:g}", pairs, rows, int(np.count_nonzero(other == number)))
    yield make("all", pairs, np.ones(len(pairs), dtype=np.bool_), len(pairs))


def _codes(found: PairedDecisions) -> tuple[CodeChange, ...]:
    total = found.gained + found.lost
    return tuple(
        CodeChange(code, found.gained[code], found.lost[code])
        for code, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))
    )


def _placed(by: str, known: Keys, floats: int, pairs: DecisionPairs) -> NDArray[np.intp]:
    """The place of each decision in a side file; -1 for none, and for a request that names several decisions."""
    place = places(known, pairs.keys(by))
    if by == "request_id":
        # A caller may use one request id for several applications: nobody knows which one the file means.
        low, high, there = np.full(len(known), np.inf), np.full(len(known), -np.inf), place >= 0
        np.minimum.at(low, place[there], pairs.recorded[there])
        np.maximum.at(high, place[there], pairs.recorded[there])
        place[there & (low < high)[np.maximum(place, 0)]] = -1
    if not (place >= 0).any():
        raise SourceError(f"no decision is in the file of groups or outcomes{unmatched(by, floats)}")
    return place


def _realised(pairs: DecisionPairs, outcomes: Outcomes, settings: MonitoringSettings) -> ChallengerOutcomes:
    place = _placed(outcomes.by, outcomes.keys, outcomes.floats, pairs)
    order = np.argsort(pairs.time, kind="stable")
    last = np.full(len(outcomes.keys), -1)
    last[place[order][place[order] >= 0]] = order[place[order] >= 0]  # of several decisions of a client the last stays
    outcome = np.full(len(pairs), UNKNOWN, dtype=np.int8)
    outcome[last[last >= 0]] = outcomes.outcome[last >= 0]
    # Those approved at random are a small share of the declines: unweighted they would stand for all of them.
    outcome[pairs.explored] = UNKNOWN
    return challenger_outcomes(
        outcome, pairs.was, pairs.recorded, pairs.other,
        stricter=settings.comparison.stricter, settings=settings.performance,
    )  # fmt: skip
