"""The two arms of a live test: which applicants each variant received, and how far their figures differ.

Only granted loans have outcomes, and the variants grant different ones. So the profit counts every applicant that a
variant received, the declined with 0: as both get applicants at random, its difference is due to the models alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import binomtest

from decision_log.errors import SourceError
from decision_log.format import EXPLORED
from decision_log.reader import DecisionLogReader
from decision_log.replay import explored_rows, policy_decisions
from monitoring.measures import Estimate
from monitoring.outcomes import (
    UNKNOWN,
    Keys,
    Outcomes,
    ambiguous_keys,
    client_keys,
    places,
    request_keys,
)
from scoring.policy import DecisionKind
from training.live.plan import Floats, LiveDesign, LiveMetric

_SPLIT_P_VALUE = 0.001
"""A split this unlikely is broken; at 0.05 one sound test in twenty would be called so at every look."""
_CROSSED_SHARE = 0.01
_COLUMNS = ("client", "request_id", "index", "time", "variant", "decision", EXPLORED)
_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class LiveApplicants:
    """The applicants of a test in the order in which they came, each with the first decision; arrays of shape (n,).

    Attributes
    ----------
    keys, requests : of the client, and of the application; shape (n, 2)
    time : microseconds since 1970
    arm : 0 for the champion, 1 for the challenger
    decision : of the policy, a position in `DecisionKind`; what is approved at random is the decline that it was
    explored : whether it was approved at random; the outcome then counts as not known
    outcome : 1 is default, 0 repaid, -1 not known
    other : what the other variant's policy would have decided, by the shadow records; -1 without
    crossed : applicants with decisions of both variants, who count for the first
    repeated : later decisions of the same applicants
    nameless : decisions without a client, which nothing assigns
    """

    keys: Keys
    requests: Keys
    time: NDArray[np.int64]
    arm: NDArray[np.int8]
    decision: NDArray[np.int8]
    explored: NDArray[np.bool_]
    outcome: NDArray[np.int8]
    other: NDArray[np.int8]
    crossed: int
    repeated: int
    nameless: int

    def __len__(self) -> int:
        return len(self.time)

    @property
    def approved(self) -> NDArray[np.bool_]:
        """Whom the policy of the variant approved."""
        return np.asarray(self.decision == _APPROVE)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whose outcome is known and due to the variant: a loan granted at random says nothing of the model."""
        return np.asarray((self.outcome != UNKNOWN) & ~self.explored)

    def first(self, count: int) -> LiveApplicants:
        """The first applicants; what is counted over all stays."""
        arrays = ("keys", "requests", "time", "arm", "decision", "explored", "outcome", "other")
        return replace(self, **{name: getattr(self, name)[:count] for name in arrays})

    def figures(self, design: LiveDesign, metric: LiveMetric) -> tuple[Floats, NDArray[np.int8]]:
        """The figure of each applicant who has one, and the arm."""
        if metric is LiveMetric.DEFAULT_RATE:
            return self.outcome[self.known].astype(np.float64), self.arm[self.known]
        if metric is LiveMetric.APPROVALS:
            return self.approved.astype(np.float64), self.arm
        return self.profit(design), self.arm

    def profit(self, design: LiveDesign) -> Floats:
        """What each applicant brought, 0 without a loan whose outcome is known."""
        costs = design.assumed
        brought = np.where(self.outcome == 1, -costs.cost_fn, costs.cost_fp)
        return np.where(self.known, brought, 0.0)


_KINDS = list(DecisionKind)
_APPROVE = _KINDS.index(DecisionKind.APPROVE)


def read_applicants(
    log: DecisionLogReader,
    design: LiveDesign,
    outcomes: Outcomes | None = None,
    shadow: DecisionLogReader | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> LiveApplicants:
    """Read the applicants of a test from a decision log; SourceError if neither variant has decided on one."""
    rows, nameless = _rows(log, design, progress)
    if not len(rows["time"]):
        named = f"{design.champion} or {design.challenger}"
        raise SourceError(f"{log.directory}: no decision of {named} on a named client since the test started")
    order = np.lexsort((rows["time"], rows["keys"][:, 1], rows["keys"][:, 0]))
    rows = {name: values[order] for name, values in rows.items()}
    begins = np.append(True, (rows["keys"][1:] != rows["keys"][:-1]).any(axis=1))
    starts = np.flatnonzero(begins)
    several = np.minimum.reduceat(rows["arm"], starts) != np.maximum.reduceat(rows["arm"], starts)
    came = starts[np.argsort(rows["time"][starts], kind="stable")]
    found = {name: values[came] for name, values in rows.items()}
    applicants = LiveApplicants(
        **found,
        outcome=_known_outcomes(log, outcomes, found),
        other=np.full(len(came), _NONE, dtype=np.int8),
        crossed=int(np.count_nonzero(several)),
        repeated=len(order) - len(came),
        nameless=nameless,
    )
    return applicants if shadow is None else _with_shadow(applicants, shadow, design)


def _rows(
    log: DecisionLogReader, design: LiveDesign, progress: Callable[[int], object]
) -> tuple[dict[str, NDArray[Any]], int]:
    """The decisions of both variants on named clients, and how many are on nameless ones."""
    blocks: list[dict[str, NDArray[Any]]] = []
    nameless = 0
    for block in log.tables(_COLUMNS):
        arm = _positions(block["variant"].to_pylist(), (design.champion, design.challenger))
        named = block["client"].is_valid().to_numpy()
        nameless += int(np.count_nonzero((arm != _NONE) & ~named))
        kept = (arm != _NONE) & named
        chosen = block.filter(pa.array(kept))
        blocks.append({
            "keys": client_keys(chosen["client"]),
            "requests": request_keys(chosen),
            "time": chosen["time"].cast("int64").to_numpy(),
            "arm": arm[kept],
            "decision": _positions(policy_decisions(chosen), _KINDS),
            "explored": explored_rows(chosen),
        })  # fmt: skip
        progress(block.num_rows)
    names = ("keys", "requests", "time", "arm", "decision", "explored")
    empty = {name: np.empty((0, 2) if name in ("keys", "requests") else 0, dtype=np.uint64) for name in names}
    return {name: np.concatenate([each[name] for each in blocks or [empty]]) for name in names}, nameless


def _positions(texts: Iterable[str], names: Any) -> NDArray[np.int8]:
    """The position of each text among the names, -1 for another."""
    place = {str(name): number for number, name in enumerate(names)}
    return np.array([place.get(text, _NONE) for text in texts], dtype=np.int8)


def _known_outcomes(
    log: DecisionLogReader, outcomes: Outcomes | None, found: dict[str, NDArray[Any]]
) -> NDArray[np.int8]:
    """The outcome of each applicant; a request_id that names several decisions has none."""
    if outcomes is None:
        return np.full(len(found["time"]), UNKNOWN, dtype=np.int8)
    clear = ~ambiguous_keys(log, outcomes.by, outcomes.keys)
    place = places(outcomes.keys[clear], found["keys" if outcomes.by == "client_id" else "requests"])
    outcome = np.append(outcomes.outcome[clear], UNKNOWN)  # the last one is what -1 finds
    return outcome[place].astype(np.int8)


def _with_shadow(applicants: LiveApplicants, shadow: DecisionLogReader, design: LiveDesign) -> LiveApplicants:
    """The applicants with the decisions that the other variant made on the same applications in the shadow."""
    rows, _ = _rows(shadow, design, lambda _: None)
    order = np.argsort(rows["requests"][:, 0], kind="stable")
    place = places(rows["requests"][order], applicants.requests)
    row = order[place] if len(order) else place
    paired = place >= 0
    paired[paired] = rows["arm"][row[paired]] == 1 - applicants.arm[paired]
    other = applicants.other.copy()
    other[paired] = rows["decision"][row[paired]]
    return replace(applicants, other=other)


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """Whether the clients were split as planned.

    Attributes
    ----------
    applicants : of each variant
    p_value : of as uneven a split by chance alone (the test of a sample ratio mismatch, exact)
    """

    applicants: tuple[int, int]
    p_value: float
    crossed: int
    repeated: int
    nameless: int

    @property
    def fault(self) -> str | None:
        """What is wrong with the split, if anything is; no figure of such a test means what it says."""
        if self.p_value < _SPLIT_P_VALUE:
            return "the split is not the planned one"
        if self.crossed > _CROSSED_SHARE * sum(self.applicants):
            return "the split does not stick: too many clients have decisions of both variants"
        return None


def check_split(applicants: LiveApplicants, design: LiveDesign) -> SplitCheck:
    """Hold the numbers of applicants against the planned shares."""
    challenger = int(np.count_nonzero(applicants.arm))
    share = design.shares[1] / sum(design.shares)
    p_value = float(binomtest(challenger, len(applicants), share).pvalue)
    counts = len(applicants) - challenger, challenger
    return SplitCheck(counts, p_value, applicants.crossed, applicants.repeated, applicants.nameless)


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """A figure of both variants, and its difference, challenger less champion; NaN where one has none."""

    metric: LiveMetric
    champion: float
    challenger: float
    rows: tuple[int, int]
    estimate: Estimate
    z: float


def arm_difference(applicants: LiveApplicants, design: LiveDesign, metric: LiveMetric, bound: float) -> ArmDifference:
    """Compare the variants, with the interval of `bound` standard errors.

    With the bounds of all looks, the intervals hold the true difference at all looks together as often as the plan
    says (C. Jennison and B. Turnbull, JRSS B 51, 1989). A one-sided test bounds the side that it asks about.
    """
    values, arm = applicants.figures(design, metric)
    sides = [values[arm == side] for side in (0, 1)]
    means = [float(side.mean()) if len(side) else math.nan for side in sides]
    variances = [_mean_variance(side, shares=metric is not LiveMetric.PROFIT) for side in sides]
    difference, error = means[1] - means[0], math.sqrt(sum(variances))
    z = difference / error if error > 0 else 0.0
    half = bound * error
    low, high = difference - half, difference + half
    if design.sides == 1:
        low, high = (low, math.inf) if metric.better > 0 else (-math.inf, high)
    return ArmDifference(metric, means[0], means[1], (len(sides[0]), len(sides[1])), Estimate(difference, low, high), z)


def _mean_variance(values: Floats, *, shares: bool) -> float:
    """The variance of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    if not shares:
        return float(values.var(ddof=1) / len(values))
    # One more of each kind: without it a variant with no default yet would count as certain (A. Agresti and
    # B. Caffo, American Statistician 54, 2000).
    share = (values.sum() + 1) / (len(values) + 2)
    return float(share * (1 - share) / (len(values) + 2))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Both variants on the same applications, challenger less champion, by records and shadow records.

    Attributes
    ----------
    rows : applications with both decisions
    gained, lost : that only the challenger approves; that only the champion does
    approvals : difference of the approval share
    profit : difference per applicant; None unless each variant's own applicants have both decisions
    """

    rows: int
    gained: int
    lost: int
    approvals: Estimate
    profit: Estimate | None


def paired_difference(applicants: LiveApplicants, design: LiveDesign, bound: float) -> PairedDifference | None:
    """Compare both decisions on the same applications, with intervals of `bound` standard errors; None without any.

    Where both decide alike the profit is the same. Where they differ only the variant in charge shows its own. So its
    mean over the variant's paired applicants is that of all, who get the variants at random.
    """
    there = applicants.other != _NONE
    if np.count_nonzero(there) < 2:
        return None
    arm, own, other = applicants.arm[there] == 1, applicants.decision[there], applicants.other[there]
    challenger, champion = np.where(arm, own, other) == _APPROVE, np.where(arm, other, own) == _APPROVE
    # Of the paired rows alone: shadow records may be there for more of one variant's applicants than of the other's.
    own_profit = np.where(own == other, 0.0, applicants.profit(design)[there])
    sides = own_profit[~arm], own_profit[arm]
    return PairedDifference(
        rows=len(arm),
        gained=int(np.count_nonzero(challenger & ~champion)),
        lost=int(np.count_nonzero(champion & ~challenger)),
        approvals=_mean_estimate(challenger.astype(np.float64) - champion, bound),
        profit=_difference_estimate(*sides, bound) if min(map(len, sides)) > 1 else None,
    )


def _difference_estimate(before: Floats, after: Floats, bound: float) -> Estimate:
    difference = float(after.mean() - before.mean())
    half = bound * math.sqrt(sum(_mean_variance(side, shares=False) for side in (before, after)))
    return Estimate(difference, difference - half, difference + half)


def _mean_estimate(values: Floats, bound: float) -> Estimate:
    half = bound * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)
