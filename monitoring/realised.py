"""Realised performance from outcomes, and estimated performance from PDs alone, over groups of equal PD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from monitoring.measures import (
    Estimate,
    Ranking,
    auc_difference,
    fit_line,
    grouped_auc_estimate,
    normal_estimate,
    share_estimate,
)
from monitoring.outcomes import UNKNOWN, Matched
from monitoring.settings import PerformanceSettings
from scoring.policy import DecisionKind, DecisionPolicy

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Decisions in groups of rising, nearly equal PD; every array has shape (groups,).

    Attributes
    ----------
    probability : mean PD of the group
    rows, bad : how many decisions, and how many of them defaulted
    """

    # With groups every resample costs as much for ten million decisions as for four thousand.

    probability: Floats
    rows: Floats
    bad: Floats

    @classmethod
    def of(cls, probability: Floats, outcome: NDArray[np.int8] | None, groups: int) -> Self:
        """Group PDs and outcomes, shape (n,); each distinct PD is a group if there are at most `groups`.

        Without outcomes `bad` is 0 throughout.
        """
        order = np.argsort(probability)
        ordered = probability[order]
        starts = _starts(ordered, groups)
        rows = np.diff(np.append(starts, len(ordered))).astype(np.float64)
        bad = np.zeros(len(starts)) if outcome is None else np.add.reduceat(outcome[order], starts, dtype=np.float64)
        return cls(np.add.reduceat(ordered, starts) / rows, rows, bad)

    @property
    def good(self) -> Floats:
        """The decisions of each group that did not default."""
        return self.rows - self.bad

    @property
    def expected(self) -> Self:
        """The cohort with the expected number of defaults in each group."""
        return type(self)(self.probability, self.rows, self.rows * self.probability)

    def drawn(self, random: np.random.Generator) -> Self:
        """The cohort with outcomes drawn at random from the PDs."""
        bad = random.binomial(self.rows.astype(np.int64), self.probability)
        return type(self)(self.probability, self.rows, bad.astype(np.float64))


def _starts(ordered: Floats, groups: int) -> NDArray[np.intp]:
    """Where groups begin: at every new value, or where a quantile falls; equal values stay together."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    if len(starts) <= groups:
        return starts
    wanted = np.arange(groups) * len(ordered) // groups
    return np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])


ASSUMPTIONS = (
    "the PDs are calibrated for these applicants",
    "what a PD depends on still means the same: there is no concept drift",
    "applicants are like those that the model was fitted on: see the drift report",
)
"""The assumptions of the estimate; none can be checked without outcomes."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """The AUC and default rate that the PDs of `rows` decisions imply, with the intervals of chance alone."""

    # Outcomes take a year, so this comes first. The idea is NannyML's confidence-based performance estimation (CBPE);
    # its package is not used, since version 0.13 demands lightgbm below 4.6.

    rows: int
    auc: Estimate
    default_rate: Estimate


def estimate(probability: Floats, settings: PerformanceSettings) -> Estimated:
    """Estimate the performance that PDs, shape (n,), imply."""
    cohort = Cohort.of(probability, None, settings.groups)
    random = np.random.default_rng(settings.seed)
    samples = [_area(cohort.drawn(random)) for _ in range(settings.resamples)]
    tail = (1 - settings.confidence) / 2
    known = [area for area in samples if np.isfinite(area)]
    low, high = np.quantile(known, [tail, 1 - tail]) if known else (np.nan, np.nan)
    variance = float((cohort.rows * cohort.probability * (1 - cohort.probability)).sum())
    rows = len(probability)
    rate = normal_estimate(float(probability.mean()), np.sqrt(variance) / rows, settings.confidence)
    return Estimated(rows, Estimate(expected_auc(cohort), float(low), float(high)), rate)


def _area(cohort: Cohort) -> float:
    return grouped_auc_estimate(cohort.bad, cohort.good, 0.5).value


def expected_auc(cohort: Cohort) -> float:
    """The expected number of pairs in the right order over the expected number of pairs; NaN for no pairs."""
    bad, good = cohort.expected.bad, cohort.expected.good
    # The products below pair each decision with itself too, which has to come off: with few rows it is a visible part.
    itself = (cohort.rows * cohort.probability * (1 - cohort.probability)).sum()
    right = (bad * (np.cumsum(good) - good / 2)).sum() - itself / 2
    pairs = bad.sum() * good.sum() - itself
    return float(right / pairs) if pairs > 0 else float("nan")


_SHOWN = ("ks", "brier", "ece", "cost_per_applicant", "cost_ratio", "declined_share")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the decisions: a risk level, a month, or a bin of PDs."""

    name: str
    rows: int
    mean_probability: float
    default_rate: Estimate
    auc: Estimate


@dataclass(frozen=True, slots=True)
class Coverage:
    """The number of decisions of one kind, and how many of them have a known outcome."""

    decision: DecisionKind
    rows: int
    known: int


@dataclass(frozen=True, slots=True)
class Realised:
    """The realised performance; every interval has the confidence of the settings.

    Attributes
    ----------
    rows, defaults : decisions with a known outcome, and defaults among them
    estimates : auc, gini, ks, brier, ece, calibration_slope, calibration_intercept, costs
    levels, months, bins : the same decisions in parts
    coverage : the number of known outcomes, by decision
    accepted_only : whether hardly any declined application has a known outcome
    expected_auc : AUC that the PDs of the same decisions imply
    """

    rows: int
    defaults: int
    estimates: Mapping[str, Estimate]
    levels: tuple[Part, ...]
    months: tuple[Part, ...]
    bins: tuple[Part, ...]
    coverage: tuple[Coverage, ...]
    accepted_only: bool
    expected_auc: float


def realise(matched: Matched, policy: DecisionPolicy, settings: PerformanceSettings) -> Realised:
    """Measure the performance of matched decisions, those aside that were approved at random."""
    coverage = _coverage(matched)
    # What was approved at random counts for many others: figures that weight it are those of `reject_inference`.
    matched = matched.of_rows(~matched.explored)
    cohort = Cohort.of(matched.probability, matched.outcome, settings.groups)
    bins = _bins(cohort.rows, settings.calibration_bins)
    level = np.searchsorted(policy.level_bounds, matched.probability, side="right").astype(np.int8)
    return Realised(
        rows=len(matched.outcome),
        defaults=int(matched.outcome.sum(dtype=np.int64)),
        estimates={
            **_discrimination(cohort, settings),
            **_calibration(cohort, settings),
            **_resampled(cohort, policy, settings),
        },
        levels=tuple(_parts(matched, level, _level_names(policy), settings)),
        months=tuple(_parts(matched, matched.month, None, settings)),
        bins=tuple(_bin_parts(cohort, bins, settings)),
        coverage=coverage,
        accepted_only=_accepted_only(coverage, settings),
        expected_auc=expected_auc(cohort),
    )


def _discrimination(cohort: Cohort, settings: PerformanceSettings) -> dict[str, Estimate]:
    area = grouped_auc_estimate(cohort.bad, cohort.good, settings.confidence)
    return {"auc": area, "gini": Estimate(2 * area.value - 1, 2 * area.low - 1, 2 * area.high - 1)}


def _calibration(cohort: Cohort, settings: PerformanceSettings) -> dict[str, Estimate]:
    """Slope and intercept of the logistic regression of the outcome on the log-odds of the PD."""
    values, target, weights = _weighted_rows(cohort)
    within = np.clip(values, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)
    if min(cohort.bad.sum(), cohort.good.sum()) == 0:
        missing = Estimate(np.nan, np.nan, np.nan)
        return {"calibration_slope": missing, "calibration_intercept": missing}
    line = fit_line(np.log(within) - np.log1p(-within), target, weights)
    return {
        "calibration_slope": normal_estimate(line.slope, line.slope_error, settings.confidence),
        "calibration_intercept": normal_estimate(line.intercept, line.intercept_error, settings.confidence),
    }


def _weighted_rows(cohort: Cohort) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """PD, outcome and number of rows, one entry for each group and outcome that occurs."""
    values = np.concatenate([cohort.probability, cohort.probability])
    target = np.repeat([0, 1], len(cohort.probability))
    weights = np.concatenate([cohort.good, cohort.bad])
    there = weights > 0
    return values[there], target[there], weights[there]


def _resampled(cohort: Cohort, policy: DecisionPolicy, settings: PerformanceSettings) -> dict[str, Estimate]:
    """The other statistics, with percentiles of a Poisson bootstrap within each outcome.

    A draw with only one outcome measures nothing, and another one takes its place.
    """
    # A Poisson bootstrap counts each row a Poisson(1) number of times, so a group of k rows counts Poisson(k) times:
    # one draw for each group. The usual bootstrap would draw every row.
    values, target, weights = _weighted_rows(cohort)
    if len(np.unique(target)) == 1:
        return {name: Estimate(np.nan, np.nan, np.nan) for name in _SHOWN}
    ranking = Ranking.of(target, values, settings.calibration_bins)
    order = np.argsort(-values, kind="stable")
    counts, target = weights[order], target[order]
    random = np.random.default_rng(settings.seed)
    measured = ranking.statistics(counts, policy, settings)
    samples = [ranking.statistics(_drawn(counts, target, random), policy, settings) for _ in range(settings.resamples)]
    tail = (1 - settings.confidence) / 2
    ends = {name: np.quantile([sample[name] for sample in samples], [tail, 1 - tail]) for name in _SHOWN}
    return {name: Estimate(measured[name], float(ends[name][0]), float(ends[name][1])) for name in _SHOWN}


def _drawn(counts: NDArray[np.float64], target: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw weights until both outcomes occur; with one row of each, two draws in five are such."""
    while True:
        weights: NDArray[np.float64] = random.poisson(counts).astype(np.float64)
        if weights[target == 1].any() and weights[target == 0].any():
            return weights


def _parts(
    matched: Matched, part: NDArray[np.signedinteger], names: Mapping[int, str] | None, settings: PerformanceSettings
) -> list[Part]:
    found = []
    for value in np.unique(part).tolist():
        rows = part == value
        cohort = Cohort.of(matched.probability[rows], matched.outcome[rows], settings.groups)
        name = str(np.datetime64(value, "M")) if names is None else names[value]
        found.append(_part(name, cohort, settings))
    return found


def _part(name: str, cohort: Cohort, settings: PerformanceSettings) -> Part:
    rows, bad = int(cohort.rows.sum()), int(cohort.bad.sum())
    mean = float((cohort.probability * cohort.rows).sum() / rows)
    area = grouped_auc_estimate(cohort.bad, cohort.good, settings.confidence)
    return Part(name, rows, mean, share_estimate(bad, rows, settings.confidence), area)


def _bins(rows: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The bin of each group of rising PD, all about equally large."""
    middle = (np.cumsum(rows) - rows / 2) / rows.sum()
    bins: NDArray[np.intp] = np.minimum((middle * count).astype(np.intp), count - 1)
    return bins


def _bin_parts(cohort: Cohort, bins: NDArray[np.intp], settings: PerformanceSettings) -> list[Part]:
    parts = []
    for number in np.unique(bins).tolist():
        chosen = bins == number
        part = Cohort(cohort.probability[chosen], cohort.rows[chosen], cohort.bad[chosen])
        parts.append(_part(str(number + 1), part, settings))
    return parts


def _level_names(policy: DecisionPolicy) -> dict[int, str]:
    ends = np.append(policy.level_bounds, 1.0)
    starts = np.append(0.0, policy.level_bounds)
    return dict(enumerate(map(str, policy.risk_levels((starts + ends) / 2))))


def _coverage(matched: Matched) -> tuple[Coverage, ...]:
    known = np.bincount(matched.decision, minlength=len(DecisionKind))
    return tuple(
        Coverage(decision, int(rows), int(count))
        for decision, rows, count in zip(DecisionKind, matched.decisions, known, strict=True)
    )


def _accepted_only(coverage: tuple[Coverage, ...], settings: PerformanceSettings) -> bool:
    """Whether the share of known outcomes is less than half as large for the declined, by the ends of intervals."""
    # A declined applicant gets no loan and so has no outcome. Measures of the accepted alone are biased (on such bias:
    # N. Kozodoi and others, arXiv 2407.13009).
    by = {each.decision: share_estimate(each.known, each.rows, settings.confidence) for each in coverage}
    return bool(by[DecisionKind.DECLINE].high < by[DecisionKind.APPROVE].low / 2)


@dataclass(frozen=True, slots=True)
class EqualApprovals:
    """The default rates of two models that approve equally many of the same applications.

    Attributes
    ----------
    judged_by : what tells the defaults: the PDs of one of the models, or outcomes
    rows, approved : applications, and how many of them each model approves
    swapped : of these, how many the other model does not approve
    champion, challenger : default rate of what each model approves
    difference : the challenger's rate less the champion's; paired, since they share most approvals
    """

    judged_by: str
    rows: int
    approved: int
    swapped: int
    champion: float
    challenger: float
    difference: Estimate


_Rows = NDArray[np.bool_]


def estimated_at_equal_approvals(
    approved: _Rows, champion: Floats, challenger: Floats, confidence: float
) -> tuple[EqualApprovals, ...]:
    """Estimate what the challenger's ranking is worth by the PDs of either model; nothing without an approval.

    The champion's approvals are those of `approved`, shape (n,); the challenger's are as many with its lowest PDs.
    Intervals are those of chance alone, where the PDs are right.
    """
    count = int(np.count_nonzero(approved))
    if not count:
        return ()
    chosen = _lowest(challenger, count)
    found = []
    for name, pd in (("PDs of the champion", champion), ("PDs of the challenger", challenger)):
        variance = float((pd * (1 - pd))[approved != chosen].sum())
        found.append(_at_equal_approvals(name, pd, approved, chosen, np.sqrt(variance), confidence))
    return tuple(found)


def _lowest(probability: Floats, count: int) -> _Rows:
    """The rows with the lowest PDs; of equal ones the first."""
    found = np.zeros(len(probability), dtype=np.bool_)
    found[np.argsort(probability, kind="stable")[:count]] = True
    return found


def _at_equal_approvals(
    judged_by: str, defaults: Floats, champion: _Rows, challenger: _Rows, error: float, confidence: float
) -> EqualApprovals:
    """Compare two sets of equally many rows; `error` is that of the difference of their sums of defaults."""
    count = int(np.count_nonzero(champion))
    rates = [float(defaults[rows].sum()) / count for rows in (champion, challenger)]
    return EqualApprovals(
        judged_by=judged_by,
        rows=len(defaults),
        approved=count,
        swapped=int(np.count_nonzero(champion & ~challenger)),
        champion=rates[0],
        challenger=rates[1],
        difference=normal_estimate(rates[1] - rates[0], error / count, confidence),
    )


@dataclass(frozen=True, slots=True)
class ChallengerOutcomes:
    """What outcomes say of a challenger's PDs beside those of the champion, on the same applications.

    Attributes
    ----------
    coverage : decisions and known outcomes, by what the champion decided
    auc : of the challenger less that of the champion, with DeLong's paired interval; NaN without two rows of either
    outcome
    equal : at as many approvals as the champion's, where some rows are not approved, and at fewer
    accepted_only : whether hardly any declined application has a known outcome
    """

    coverage: tuple[Coverage, ...]
    auc: Estimate
    equal: tuple[EqualApprovals, ...]
    accepted_only: bool


def challenger_outcomes(
    outcome: NDArray[np.int8],
    decision: NDArray[np.int8],
    champion: Floats,
    challenger: Floats,
    *,
    stricter: Sequence[float],
    settings: PerformanceSettings,
) -> ChallengerOutcomes:
    """Compare two models on the rows with a known outcome; all arrays have shape (n,), an unknown outcome is -1.

    Parameters
    ----------
    decision : the champion's, by position in `DecisionKind`
    stricter : shares of the champion's approvals at which both models are compared as well
    """
    kinds, known = tuple(DecisionKind), outcome != UNKNOWN
    coverage = tuple(
        Coverage(kind, int(np.count_nonzero(rows)), int(np.count_nonzero(rows & known)))
        for kind, rows in ((kind, decision == place) for place, kind in enumerate(kinds))
    )
    approved = decision[known] == kinds.index(DecisionKind.APPROVE)
    target, first, second = outcome[known].astype(np.int64), champion[known], challenger[known]
    seen = min(int(target.sum()), len(target) - int(target.sum()))
    auc = auc_difference(target, second, first, settings.confidence) if seen > 1 else Estimate(np.nan, np.nan, np.nan)
    count, equal = int(np.count_nonzero(approved)), []
    # Where every known outcome is of an approval, both would approve all: only fewer approvals tell the two apart.
    pairs = [] if count == len(target) else [(approved, _lowest(second, count))]
    for share in stricter:
        fewer = round(share * count)
        pairs.append((_lowest(first, fewer), _lowest(second, fewer)))
    for own, others in pairs:
        if own.any() and len(target) > 1:
            swaps = target * (others.astype(np.int64) - own)
            error = float(np.sqrt(len(swaps)) * swaps.std(ddof=1))
            defaults = target.astype(np.float64)
            equal.append(_at_equal_approvals("outcomes", defaults, own, others, error, settings.confidence))
    return ChallengerOutcomes(coverage, auc, tuple(equal), _accepted_only(coverage, settings))
