"""The fairness screening: compares decisions and their outcomes between protected groups.

The attributes come from a file of their own, which the model never sees.

Its columns are `client_id`, or `request_id` and perhaps `index`. Every other column is an attribute, and its values are
the groups. Empty cells, null and the words for missing are one group, "not stated".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import EXPLORED, ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.replay import explored_rows, policy_decisions
from features.values import as_texts
from monitoring.measures import Estimate, Group, ImpactRatio, share_estimate
from monitoring.outcomes import (
    Keyed,
    Keys,
    Outcomes,
    ambiguous_keys,
    decision_columns,
    decision_keys,
    keyed_tables,
    places,
    refuse_rows,
    unmatched,
)
from monitoring.settings import FairnessSettings
from scoring.policy import DecisionKind

NOT_STATED = "not stated"
_MOST_GROUPS = 50
"""More values than this are ages, dates or ids rather than groups."""


@dataclass(frozen=True, slots=True, eq=False)
class ProtectedGroups:
    """Protected attributes by sorted key; `groups` holds the group of each row, shape (n,), by attribute.

    `floats` counts client ids that look like whole numbers which became floats.
    """

    by: str
    keys: Keys
    groups: dict[str, NDArray[np.object_]]
    floats: int

    def only(self, names: Sequence[str]) -> Self:
        """The same with these attributes alone, or all for no name; SourceError for one that the file lacks."""
        if lacking := [name for name in names if name not in self.groups]:
            raise SourceError(f"the file of protected attributes lacks {', '.join(lacking)}")
        return replace(self, groups={name: self.groups[name] for name in names or self.groups})


def read_protected(path: Path, client_hash: ClientHash | None) -> ProtectedGroups:
    """Read the attributes in a .csv or .parquet file.

    SourceError if a column is wrong or missing, a key is there twice, or an attribute has too many groups.
    """
    blocks = list(keyed_tables(path, client_hash))
    if not blocks or not blocks[0].columns.column_names:
        raise SourceError(f"{path}: has no attribute")
    keys = np.concatenate([block.keys for block in blocks])
    order = np.argsort(keys[:, 0], kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).all(axis=1).any():
        raise SourceError(f"{path}: somebody is named twice")
    groups = {}
    for name in blocks[0].columns.column_names:
        stated = [group for block in blocks for group in _groups(block, name, path)]
        groups[name] = np.array(stated, dtype=object)[order]
        if len(set(groups[name])) > _MOST_GROUPS:
            raise SourceError(f"{path}: {name} has more than {_MOST_GROUPS} values; put them into bands")
    return ProtectedGroups(blocks[0].by, keys, groups, sum(block.floats for block in blocks))


def _groups(block: Keyed, name: str, path: Path) -> list[str]:
    groups, wrong = as_texts(block.columns[name])
    refuse_rows(path, name, "must be a text", wrong, block.first_row)
    return [NOT_STATED if group is None else group.strip() for group in groups.to_pylist()]


# The four fifths are a rule for employers (29 CFR 1607.4(D)), and no regulator of lending made them one. Groups may
# also differ in risk, which a ratio of approvals does not see.
SIGNAL = "a screening signal, not a legal verdict"


@dataclass(frozen=True, slots=True)
class GroupRates:
    """The rates of one group; rates that need outcomes are None if no outcome is known.

    Attributes
    ----------
    rows, approved : decisions, and approvals among them
    selection : share of approvals
    impact : share of approvals against that of the most approved group; None for a group too small to judge
    known, defaults : decisions with a known outcome, and defaults among them
    true_positive, false_positive : share of the defaults, and of the repaid, with a PD at or above the cut-off
    mean_probability, default_rate : of the decisions with a known outcome
    """

    name: str
    rows: int
    approved: int
    selection: Estimate
    impact: Estimate | None
    known: int
    defaults: int
    true_positive: Estimate | None
    false_positive: Estimate | None
    mean_probability: float | None
    default_rate: Estimate | None


@dataclass(frozen=True, slots=True)
class FairnessScreening:
    """The screening of one attribute; gaps are between large enough groups, None without known outcomes."""

    attribute: str
    groups: tuple[GroupRates, ...]
    true_positive_gap: float | None
    false_positive_gap: float | None
    signals: tuple[str, ...]

    @property
    def screened(self) -> bool:
        """True where two groups or more had enough decisions to be compared."""
        return any(group.impact is not None for group in self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class GroupedDecisions:
    """Decisions of applicants with known attributes, shape (n,); `outcome` is -1 if it is not known."""

    groups: dict[str, NDArray[np.object_]]
    approved: NDArray[np.int8]
    predicted: NDArray[np.int8]
    probability: NDArray[np.float64]
    outcome: NDArray[np.int8]
    unknown: int
    ambiguous: int = 0
    """Decisions whose request_id names several different ones; they are left out."""


def decided(
    log: DecisionLogReader,
    protected: ProtectedGroups,
    outcomes: Outcomes | None,
    progress: Callable[[int], object] = lambda _: None,
) -> GroupedDecisions:
    """Join the decisions of the log to their groups and outcomes.

    SourceError if no decision has attributes, or if outcomes and attributes name applications by different columns.
    """
    if outcomes is not None and outcomes.by != protected.by:
        raise SourceError(f"outcomes name applications by {outcomes.by}, protected attributes by {protected.by}")
    several = ambiguous_keys(log, protected.by, protected.keys)
    blocks, unknown, ambiguous = [], 0, 0
    for table in log.tables([*decision_columns(protected.by), "decision", EXPLORED, "prediction", "probability"]):
        keys = decision_keys(protected.by, table)
        place = places(protected.keys, keys)
        doubtful = (place >= 0) & several[np.maximum(place, 0)]
        ambiguous += int(np.count_nonzero(doubtful))
        place[doubtful] = -1
        there = place >= 0
        unknown += int(np.count_nonzero(~there & ~doubtful))
        # What was approved at random is judged as the decline that the policy made.
        approved = policy_decisions(table) == str(DecisionKind.APPROVE)
        outcome = np.full(len(keys), -1, dtype=np.int8)
        if outcomes is not None:
            found = places(outcomes.keys, keys)
            outcome[found >= 0] = outcomes.outcome[found[found >= 0]]
            outcome[explored_rows(table)] = -1
        columns = (place, approved, table["prediction"].to_numpy(), table["probability"].to_numpy(), outcome)
        blocks.append([column[there] for column in columns])
        progress(table.num_rows)
    if not sum(len(block[0]) for block in blocks):
        hint = unmatched(protected.by, protected.floats)
        raise SourceError(f"{log.directory}: no decision has protected attributes in the file{hint}")
    place, approved, predicted, probability, outcome = (np.concatenate(each) for each in zip(*blocks, strict=True))
    groups = {name: values[place] for name, values in protected.groups.items()}
    return GroupedDecisions(groups, approved.astype(np.int8), predicted, probability, outcome, unknown, ambiguous)


def screen(decisions: GroupedDecisions, settings: FairnessSettings) -> tuple[FairnessScreening, ...]:
    """Screen every attribute."""
    return tuple(_screen(name, decisions, settings) for name in decisions.groups)


def _screen(attribute: str, decisions: GroupedDecisions, settings: FairnessSettings) -> FairnessScreening:
    member = decisions.groups[attribute]
    selected = _counts(attribute, member, decisions.approved)
    large = [group for group in selected.values() if group.rows >= settings.min_rows]
    most = max(large, key=lambda group: group.share, default=None)
    groups = []
    for name, group in selected.items():
        judged = most is not None and group is not most and group.rows >= settings.min_rows
        impact = ImpactRatio(group, most).estimate(settings.confidence) if judged and most is not None else None
        groups.append(_rates(group, impact, member == name, decisions, settings))
    gaps = _gaps(member, decisions, [group.name for group in large])
    # a signal needs the whole interval below the floor: a ratio from a hundred rows wavers by a tenth or two
    signals = tuple(
        f"{attribute} {group.name}: approved {group.impact.value:.2f} times as often as {most.name}"
        for group in groups
        if group.impact is not None and most is not None and group.impact.high < settings.min_impact_ratio
    )
    return FairnessScreening(attribute, tuple(groups), *gaps, signals)


def _counts(attribute: str, member: NDArray[np.object_], approved: NDArray[np.int8]) -> dict[str, Group]:
    """The groups by name, with rows and approvals."""
    # imported here: fairlearn brings pandas and scikit-learn, which other commands do not wait for
    from fairlearn.metrics import MetricFrame, count

    frame = MetricFrame(
        metrics={"rows": count, "approved": lambda _, chosen: int(np.sum(chosen))},
        y_true=approved,
        y_pred=approved,
        sensitive_features=member,
    )
    rows = zip(frame.by_group.index, frame.by_group["rows"], frame.by_group["approved"], strict=True)
    return {name: Group(attribute, name, int(size), int(chosen)) for name, size, chosen in rows}


def _rates(
    group: Group,
    impact: Estimate | None,
    member: NDArray[np.bool_],
    decisions: GroupedDecisions,
    settings: FairnessSettings,
) -> GroupRates:
    known = member & (decisions.outcome >= 0)
    outcome, predicted = decisions.outcome[known] == 1, decisions.predicted[known] == 1
    rows, bad = len(outcome), int(outcome.sum())

    def share(hits: int, trials: int) -> Estimate | None:
        return share_estimate(hits, trials, settings.confidence) if trials else None

    selection = share_estimate(group.approved, group.rows, settings.confidence)
    return GroupRates(
        name=group.name,
        rows=group.rows,
        approved=group.approved,
        selection=selection,
        impact=impact,
        known=rows,
        defaults=bad,
        true_positive=share(int((outcome & predicted).sum()), bad),
        false_positive=share(int((~outcome & predicted).sum()), rows - bad),
        mean_probability=float(decisions.probability[known].mean()) if rows else None,
        default_rate=share(bad, rows),
    )


def _gaps(
    member: NDArray[np.object_], decisions: GroupedDecisions, judged: list[str]
) -> tuple[float | None, float | None]:
    """The largest differences of true and false positive rates between the judged groups."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, true_positive_rate

    known = (decisions.outcome >= 0) & np.isin(member.astype(str), judged)
    if len(judged) < 2 or len(np.unique(decisions.outcome[known])) < 2:
        return None, None
    frame = MetricFrame(
        metrics={"tpr": true_positive_rate, "fpr": false_positive_rate},
        y_true=decisions.outcome[known],
        y_pred=decisions.predicted[known],
        sensitive_features=member[known],
    )
    gap = frame.difference(method="between_groups")
    return float(gap["tpr"]), float(gap["fpr"])


@dataclass(frozen=True, slots=True)
class GroupShift:
    """The approvals of one group by two models; a group of too few people has no figures, they are None.

    Attributes
    ----------
    rows : decisions
    before, after : share of approvals of the champion and of the challenger
    impact_before, impact_after : share of approvals against that of the most approved group; None for that group, and
        for one too small to judge
    to_approval, from_approval : decisions that become approvals, or are none any more; None where few people are behind
    """

    name: str
    rows: int | None = None
    before: Estimate | None = None
    after: Estimate | None = None
    impact_before: Estimate | None = None
    impact_after: Estimate | None = None
    to_approval: int | None = None
    from_approval: int | None = None


def shifts_of_groups(
    attribute: str,
    protected: ProtectedGroups,
    place: NDArray[np.intp],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    *,
    settings: FairnessSettings,
    min_people: int,
) -> tuple[GroupShift, ...]:
    """Compare the approvals of two models in each group of an attribute.

    Parameters
    ----------
    place : position of each decision's applicant in `protected`, shape (n,)
    before, after : approvals of the two models, shape (n,)
    min_people : figures of fewer people are left out
    """
    names, codes = np.unique(protected.groups[attribute].astype(str), return_inverse=True)
    member = codes[place]
    people = np.bincount(codes[np.unique(place)], minlength=len(names))
    rows, *counts = (
        np.bincount(member[chosen], minlength=len(names))
        for chosen in (np.ones(len(place), dtype=np.bool_), before, after, after & ~before, before & ~after)
    )
    approvals = [
        [
            Group(attribute, name, int(size), int(approved))
            for name, size, approved in zip(names, rows, each, strict=True)
        ]
        for each in counts[:2]
    ]
    impacts = [_impacts(groups, settings) for groups in approvals]

    def shift(at: int) -> GroupShift:
        if people[at] < min_people:
            return GroupShift(str(names[at]))
        shares = [share_estimate(each[at].approved, each[at].rows, settings.confidence) for each in approvals]
        flips = [None if 0 < each[at] < min_people else int(each[at]) for each in counts[2:]]
        return GroupShift(
            str(names[at]),
            int(rows[at]),
            before=shares[0],
            after=shares[1],
            impact_before=impacts[0][at],
            impact_after=impacts[1][at],
            to_approval=flips[0],
            from_approval=flips[1],
        )

    return tuple(shift(at) for at in range(len(names)) if rows[at])


def _impacts(groups: Sequence[Group], settings: FairnessSettings) -> list[Estimate | None]:
    """The impact ratio of each group; None for the most approved one and for small ones."""
    large = [group for group in groups if group.rows >= settings.min_rows]
    most = max(large, key=lambda group: group.share, default=None)
    return [
        ImpactRatio(group, most).estimate(settings.confidence)
        if most is not None and group is not most and group in large
        else None
        for group in groups
    ]


def screening_lines(screenings: Sequence[FairnessScreening]) -> Iterator[str]:
    """The screening as lines of text: counts, rates with intervals, and signals."""
    yield f"fairness of approvals: {SIGNAL}"
    for screening in screenings:
        yield f"{screening.attribute}{_gap_texts(screening)}"
        yield from map(_line, screening.groups)
        yield from (f"  SIGNAL {signal}" for signal in screening.signals)
        if not screening.screened:
            yield "  not screened: fewer than two groups have enough decisions"


def screening_json(screenings: Sequence[FairnessScreening]) -> dict[str, Any]:
    """The screening in JSON-ready form."""
    return {"meaning": SIGNAL, "attributes": [asdict(screening) for screening in screenings]}


def _line(group: GroupRates) -> str:
    return (
        f"  {group.name:20} {group.rows:9,} approved {_short(group.selection)}; impact ratio {_short(group.impact)}; "
        f"outcomes {group.known:,}: TPR {_short(group.true_positive)}, FPR {_short(group.false_positive)}, mean PD "
        f"{'-' if group.mean_probability is None else f'{group.mean_probability:.4f}'}, "
        f"default rate {_short(group.default_rate)}"
    )


def _gap_texts(screening: FairnessScreening) -> str:
    """The gaps between groups as text; empty without outcomes."""
    gaps = (screening.true_positive_gap, screening.false_positive_gap)
    if gaps == (None, None):
        return ""
    return f": true and false positive rates differ by {' and '.join('-' if g is None else f'{g:.3f}' for g in gaps)}"


def _short(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
