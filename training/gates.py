"""Gates are the requirements that a challenger must meet before it becomes champion.

Fairness screening counts approvals by protected group. The attributes are read from the raw rows and never by the
model. A low adverse impact ratio is a signal to look closer, not a verdict: groups differ in risk, and no lending
regulator has made the four fifths a rule.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from features.schema import ColumnKind, Protection
from features.transformer import Columns, missing_as_nan
from jobs.commandline import table
from monitoring.measures import Estimate, Group, ImpactRatio, auc_difference, auc_estimate, normal_estimate
from scoring.policy import DecisionKind, DecisionPolicy
from scoring.scorer import Scorer
from training.dataset import is_generated
from training.evaluation import Evaluation, Observation, observe
from training.settings import ApprovalSettings, GateSettings

_Rows = NDArray[np.bool_]


def members(columns: Columns, attribute: str) -> dict[str, _Rows]:
    """Mark the rows of each declared group of a protected attribute: its levels', or its bands' from the lowest on."""
    column, protection = columns.schema.stating(attribute)
    place = columns.schema.position[column.name]
    if not column.numeric:
        stated = columns.levels[:, place]
        return {name: np.isin(stated, np.array(levels, dtype=object)) for name, levels in protection.groups}
    values = missing_as_nan(columns)[:, place] / protection.per_unit
    if column.kind is ColumnKind.FLAG:
        return {"0": values == 0, "1": values == 1}
    ends = zip([-np.inf, *protection.bands], [*protection.bands, np.inf], strict=True)
    return {_band(low, high): (values >= low) & (values < high) for low, high in ends}


def groups_of(columns: Columns, attribute: str, approved: _Rows) -> tuple[Group, ...]:
    """Count approvals by group of a protected attribute; `approved` is bool of shape (len(columns),)."""
    return tuple(Group.of(attribute, name, rows, approved) for name, rows in members(columns, attribute).items())


def most_approved(groups: Sequence[Group], min_rows: int) -> Group | None:
    """Find the most approved group of at least `min_rows` rows; None if there is none."""
    # The reference group of the four-fifths rule is the one with the highest rate (29 CFR 1607.4(D)).
    return max((group for group in groups if group.rows >= min_rows), key=lambda group: group.share, default=None)


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """One comparison of approvals by an attribute; `ratio` is None where too few rows are left to compare.

    `elderly` is empty where the least approved group is compared with the most approved one. Else it names the
    elderly and the younger applicants, who are compared.
    """

    attribute: str
    ratio: ImpactRatio | None
    elderly: str = ""


def compared(groups: Sequence[Group], protection: Protection, min_rows: int) -> Iterator[GroupComparison]:
    """Compare the least approved of the groups that have `min_rows` with the most approved, then old with younger.

    The second comparison is only of an age that has the elderly declared.
    """
    large = sorted((group for group in groups if group.rows >= min_rows), key=lambda group: group.share)
    yield GroupComparison(protection.attribute, ImpactRatio(large[0], large[-1]) if len(large) > 1 else None)
    if protection.elderly is not None:
        first = protection.bands.index(protection.elderly) + 1
        yield _elderly_compared(groups[:first], groups[first:], protection.elderly, min_rows)


def _elderly_compared(
    younger: Sequence[Group], elderly: Sequence[Group], bound: float, min_rows: int
) -> GroupComparison:
    """Compare the elderly with all younger applicants.

    Regulation B lets a system weigh age if the age of the elderly, 62 or older, is not held against them
    (12 CFR 1002.2(o) and 1002.6(b)(2)).
    """
    old, reference = _together(elderly, _band(bound, np.inf)), _together(younger, _band(-np.inf, bound))
    enough = min(old.rows, reference.rows) >= min_rows
    named = f"{old.name} against {reference.name}"
    return GroupComparison(old.attribute, ImpactRatio(old, reference) if enough else None, named)


def _together(groups: Sequence[Group], name: str) -> Group:
    return Group(
        groups[0].attribute, name, sum(group.rows for group in groups), sum(group.approved for group in groups)
    )


def group_lines(groups: Sequence[Group]) -> Iterator[str]:
    """Format the groups, one line each."""
    if groups:
        yield from table(map(_group_cells, groups), right={1})


def _group_cells(group: Group) -> tuple[str, str, str]:
    if not group.rows:
        return str(group), "no rows", ""
    return str(group), f"{group.rows} applications", f"approved {group.share:.1%}"


def _band(low: float, high: float) -> str:
    if np.isinf(low):
        return f"under {high:g}"
    return f"{low:g} and over" if np.isinf(high) else f"{low:g} to under {high:g}"


@dataclass(frozen=True, slots=True)
class GroupPerformance:
    """The outcomes and approvals of one protected group.

    `impact_ratio` is the group's share of approvals over that of the group of the same attribute that is approved most.
    It and `observed` are None for a group that is too small, `auc` also where too few of either outcome were seen.
    """

    group: Group
    impact_ratio: ImpactRatio | None
    observed: Observation | None
    auc: Estimate | None


def group_performances(
    attribute: str,
    marked: Mapping[str, _Rows],
    *,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    approved: _Rows,
    min_rows: int,
    min_outcomes: int,
    confidence: float,
) -> tuple[GroupPerformance, ...]:
    """Measure each group of an attribute; `marked` says which of the n rows each group holds."""
    groups = [Group.of(attribute, name, rows, approved) for name, rows in marked.items()]
    reference = most_approved(groups, min_rows)

    def performance(group: Group) -> GroupPerformance:
        if reference is None or group.rows < min_rows:
            return GroupPerformance(group, None, None, None)
        rows = marked[group.name]
        outcomes = target[rows]
        defaults = int(outcomes.sum())
        # DeLong's interval needs some rows of either outcome, however many rows the group has.
        judged = min(defaults, len(outcomes) - defaults) >= min_outcomes
        return GroupPerformance(
            group,
            ImpactRatio(group, reference),
            observe(target, probability, rows, confidence),
            auc_estimate(outcomes, probability[rows], confidence) if judged else None,
        )

    return tuple(performance(group) for group in groups)


Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate holds a requirement, the figure that was measured, and whether it lets the challenger through.

    A gate that could not be judged lets through, and is never said to be passed.
    """

    name: str
    figure: str
    limit: str
    passed: bool
    judged: bool = True

    @property
    def result(self) -> str:
        """The result in words."""
        if not self.judged:
            return "not screened"
        return "passed" if self.passed else "FAILED"


def gate_lines(gates: Sequence[Gate]) -> Iterator[str]:
    """Format the gates as a table: name, figure, limit and result."""
    return table((gate.name, gate.figure, gate.limit, gate.result) for gate in gates)


def evaluation_gates(evaluation: Evaluation, settings: GateSettings) -> Iterator[Gate]:
    """Hold AUC, calibration error and cost against their limits."""
    auc, cost = evaluation["auc"], evaluation["cost_ratio"]
    yield _at_least("AUC, lower end", auc.low, settings.min_auc)
    yield _calibration_gate(evaluation["ece"].value, evaluation["ece_by_chance"].value, settings.max_ece)
    yield _at_most("cost against the cheaper blanket rule", cost.value, settings.max_cost_ratio)


def comparison_gates(comparison: Comparison, settings: GateSettings) -> Iterator[Gate]:
    """Require that the challenger is no worse than the champion, by the worse end of each paired interval."""
    # A test of no difference would pass on few rows; the worse end asks the rows to show that little can be lost.
    auc, cost = comparison.auc, comparison.cost
    yield Gate(
        "AUC minus the champion's, lower end",
        f"{auc.low:+.4f} ({auc.value:+.4f})",
        f"at least {-settings.max_auc_loss:g}",
        auc.low >= -settings.max_auc_loss,
    )
    yield Gate(
        "cost minus the champion's, upper end",
        f"{cost.high:+.4f} ({cost.value:+.4f})",
        f"at most {settings.max_cost_increase:g}",
        cost.high <= settings.max_cost_increase,
    )


def fairness_gates(comparisons: Sequence[GroupComparison], settings: GateSettings) -> Iterator[Gate]:
    """Hold adverse impact ratios against their limit; what has too few rows is not judged and lets through."""
    # Screening only: the four fifths are an employment rule (29 CFR 1607.4(D)), and no lending regulator adopted it.
    if not comparisons:
        limit = f"at least {settings.fairness.min_impact_ratio:g}"
        yield Gate("adverse impact ratios (screening)", "nothing is declared", limit, passed=True, judged=False)
    yield from (_fairness_gate(comparison, settings.fairness) for comparison in comparisons)


def _fairness_gate(comparison: GroupComparison, settings: ApprovalSettings) -> Gate:
    ratio, elderly = comparison.ratio, comparison.elderly
    # A lender may accept less of the young, whose age a system may weigh (12 CFR 1002.6(b)(2)), never of the elderly.
    least = settings.min_impact_ratio if elderly else settings.limit(comparison.attribute)
    attribute = comparison.attribute.replace("_", " ")
    name = f"adverse impact ratio by {attribute}{f', {elderly}' if elderly else ''} (screening)"
    if ratio is None:
        return Gate(name, "too few rows", f"at least {least:g}", passed=True, judged=False)
    figure = f"{ratio.value:.4f}" if elderly else f"{ratio.value:.4f} {ratio.group.name}"
    return Gate(name, figure, f"at least {least:g}", ratio.value >= least)


def reason_gate(changes: ReasonChanges | None, settings: GateSettings) -> Gate:
    """Hold the share of first reasons that differ from the champion's against its limit."""
    limits = settings.reasons
    name, limit = "first reasons that differ from the champion's", f"at most {limits.max_changed:g}"
    if changes is None:
        return Gate(name, "not comparable", limit, passed=True, judged=False)
    if changes.declines < limits.min_declines:
        return Gate(name, "too few declines", limit, passed=True, judged=False)
    share = changes.changed / changes.declines
    return Gate(name, f"{share:.4f} of {changes.declines:,}", limit, share <= limits.max_changed)


def latency_gate(milliseconds: float, settings: GateSettings) -> Gate:
    """Hold the median time of one application against its limit."""
    limit = settings.latency.max_milliseconds
    return Gate(
        "median time of one application", f"{milliseconds:.2f} ms", f"at most {limit:g} ms", milliseconds <= limit
    )


def parity_gate(differing: int, applications: int) -> Gate:
    """Require that the registered and the imported form give the same probabilities."""
    return Gate(f"differing probabilities of {applications:,}", str(differing), "at most 0", differing == 0)


def comparability_gate(*, allowed: bool) -> Gate:
    """Keep a champion that this code cannot score, unless the command allows its replacement without comparison."""
    return Gate("comparison with the champion", "not possible", "--allow-uncompared", passed=allowed)


def source_gate(challenger: str, champion: str, *, generated_allowed: bool) -> Gate:
    """Refuse a model of generated data in place of one of real data, unless the command allows it."""
    shown = "generated" if is_generated(challenger) else "real"
    needed = "generated" if generated_allowed or is_generated(champion) else "real"
    return Gate("data, against the champion's", shown, needed, needed == "generated" or shown == "real")


def _calibration_gate(ece: float, chance: float, limit: float) -> Gate:
    """Hold the ECE less that of chance against the limit."""
    # The ECE adds up distances, so it is above 0 for right PDs too, and the more the fewer rows judge it.
    return Gate("ECE", f"{ece:.4f}, by chance {chance:.4f}", f"at most {limit:g} above chance", ece - chance <= limit)


def _at_least(name: str, figure: float, limit: float) -> Gate:
    return Gate(name, f"{figure:.4f}", f"at least {limit:g}", figure >= limit)


def _at_most(name: str, figure: float, limit: float) -> Gate:
    return Gate(name, f"{figure:.4f}", f"at most {limit:g}", figure <= limit)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison holds paired differences, challenger minus champion.

    `auc` carries DeLong's paired interval, `cost` per applicant that of the mean of the rows' differences.
    """

    auc: Estimate
    cost: Estimate


def compare(
    target: Target, challenger: Probabilities, champion: Probabilities, policy: DecisionPolicy, confidence: float
) -> Comparison:
    """Compare two sets of PDs, both of shape (n,), for the same outcomes at one cut-off and one pair of costs.

    One policy serves both, since the models are compared and not their policies. The intervals say how far other rows
    could move the difference; they do not say how far another training could.
    """
    # Row by row: both models err on many of the same applicants, which two separate means would count as noise.
    difference = _costs(target, challenger, policy) - _costs(target, champion, policy)
    error = float(difference.std(ddof=1) / np.sqrt(len(target)))
    return Comparison(
        auc=auc_difference(target, challenger, champion, confidence),
        cost=normal_estimate(float(difference.mean()), error, confidence),
    )


def _costs(target: Target, probability: Probabilities, policy: DecisionPolicy) -> NDArray[np.float64]:
    declined = policy.predictions(probability) == 1
    return np.asarray(np.where(target == 1, policy.cost_fn * ~declined, policy.cost_fp * declined), dtype=np.float64)


_COMPARED_ROWS = 20_000
"""Applications on which reasons are compared, evenly spaced over the file."""


@dataclass(frozen=True, slots=True)
class ReasonChanges:
    """How many applications both models decline, and in how many of them the first reason differs."""

    declines: int
    changed: int


def reason_changes(challenger: Scorer, champion: Scorer, columns: Columns) -> ReasonChanges | None:
    """Compare the first reasons of two models; None if one gives none. ColumnsError if one lacks a column."""
    if challenger.explainer is None or champion.explainer is None:
        return None
    rows = np.unique(np.linspace(0, len(columns) - 1, min(len(columns), _COMPARED_ROWS)).astype(np.intp))
    chosen = columns.take(rows)
    found = [
        [reasons[0].code if reasons else None for reasons in scorer.score(chosen.declared_by(portfolio)).reasons]
        for scorer, portfolio in ((one, one.artefact.portfolio) for one in (challenger, champion))
    ]
    declined = [pair for pair in zip(*found, strict=True) if None not in pair]
    return ReasonChanges(len(declined), sum(own != other for own, other in declined))


@dataclass(frozen=True, slots=True)
class Screening:
    """The screening counts approvals by group of each declared protected attribute.

    `comparisons` hold what is judged of them, in the same order.
    """

    by_attribute: Mapping[str, tuple[Group, ...]]
    comparisons: tuple[GroupComparison, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, in the order of the declaration."""
        return tuple(chain.from_iterable(self.by_attribute.values()))

    def gates(self, limits: GateSettings) -> Iterator[Gate]:
        """Yield the fairness gates of these groups."""
        return fairness_gates(self.comparisons, limits)


def screen(
    columns: Columns, probability: NDArray[np.float64], policy: DecisionPolicy, settings: ApprovalSettings
) -> Screening:
    """Count the approvals of n applications by group; the PDs have the shape (n,)."""
    approved = np.asarray(policy.outcomes(probability) == DecisionKind.APPROVE)
    schema = columns.schema
    found = {attribute: groups_of(columns, attribute, approved) for attribute in schema.attributes}
    judged = (compared(groups, schema.stating(name)[1], settings.min_rows) for name, groups in found.items())
    return Screening(found, tuple(chain.from_iterable(judged)))


def median_milliseconds(scorer: Scorer, columns: Columns, applications: int) -> float:
    """Measure the median time from raw columns to decision over the first `applications` rows, one at a time."""
    # The median, since one pause of the machine would move a mean.
    singles = [columns.take(slice(row, row + 1)) for row in range(min(applications, len(columns)))]
    return float(np.median([_milliseconds(scorer, single) for single in singles]))


def _milliseconds(scorer: Scorer, single: Columns) -> float:
    started = time.perf_counter()
    scorer.score(single)
    return 1000 * (time.perf_counter() - started)
