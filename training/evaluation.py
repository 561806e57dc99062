"""An evaluation measures PDs against known outcomes; a decision policy turns costs into a cut-off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.measures import Estimate, Ranking, auc_estimate, fit_line, normal_estimate, share_estimate
from scoring.policy import DecisionPolicy, RiskLevel
from training.settings import EvaluationSettings, PolicySettings

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LevelObservation:
    """The applications of one risk level, their mean PD and their default rate; None for no rows."""

    level: RiskLevel
    rows: int
    mean_probability: float | None
    default_rate: Estimate | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation holds every statistic of `rows` rows with known outcome, of which `defaults` defaulted.

    `confidence` holds for every interval. `confusion` counts true negatives, false positives, false negatives and
    true positives at the policy's cut-off.
    """

    rows: int
    defaults: int
    confidence: float
    estimates: Mapping[str, Estimate]
    levels: tuple[LevelObservation, ...]
    thresholds: tuple[Threshold, ...]
    confusion: tuple[int, int, int, int]

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as values that JSON can hold."""
        return asdict(self)


def evaluate(
    target: Target, probability: Probabilities, policy: DecisionPolicy, settings: EvaluationSettings, *, seed: int
) -> Evaluation:
    """Measure PDs against outcomes, both of shape (n,).

    AUC and Gini carry DeLong's interval, the calibration line Wald's, shares Wilson's, and the others percentiles of a
    bootstrap stratified by outcome (B. Efron and R. Tibshirani, 1993). `ece_by_chance` is the ECE that right PDs would
    have on as many rows: on 1,000 it is above 0.03.
    """
    return Evaluation(
        rows=len(target),
        defaults=int(target.sum()),
        confidence=settings.confidence,
        estimates={
            **_discrimination(target, probability, settings.confidence),
            **_calibration_line(target, probability, settings.confidence),
            **_resampled(target, probability, policy, settings, np.random.default_rng(seed)),
            "ece_by_chance": _chance_ece(target, probability, settings, np.random.default_rng(seed)),
        },
        levels=tuple(_level(level, target, probability, policy, settings.confidence) for level in RiskLevel),
        thresholds=thresholds(target, probability, policy, settings.f_beta),
        confusion=_confusion(target, policy.predictions(probability)),
    )


def _discrimination(target: Target, probability: Probabilities, confidence: float) -> dict[str, Estimate]:
    area = auc_estimate(target, probability, confidence)
    gini = Estimate(*(2 * end - 1 for end in (area.value, area.low, area.high)))
    return {"auc": area, "gini": gini}


def _calibration_line(target: Target, probability: Probabilities, confidence: float) -> dict[str, Estimate]:
    # log1p(-p) keeps digits that log(1 - p) loses for a small PD.
    line = fit_line(np.log(probability) - np.log1p(-probability), target)
    return {
        "calibration_slope": normal_estimate(line.slope, line.slope_error, confidence),
        "calibration_intercept": normal_estimate(line.intercept, line.intercept_error, confidence),
    }


def _resampled(
    target: Target,
    probability: Probabilities,
    policy: DecisionPolicy,
    settings: EvaluationSettings,
    random: np.random.Generator,
) -> dict[str, Estimate]:
    # The rows are sorted once. Each of the hundreds of samples is a weight per row, and sorts nothing.
    ranking = Ranking.of(target, probability, settings.calibration_bins)
    measured = ranking.statistics(np.ones(len(target)), policy, settings)
    samples = [
        ranking.statistics(resample(ranking.target, random), policy, settings) for _ in range(settings.resamples)
    ]
    tail = (1 - settings.confidence) / 2
    ends = {name: np.quantile([sample[name] for sample in samples], [tail, 1 - tail]) for name in measured}
    return {name: Estimate(value, float(ends[name][0]), float(ends[name][1])) for name, value in measured.items()}


def _chance_ece(
    target: Target, probability: Probabilities, settings: EvaluationSettings, random: np.random.Generator
) -> Estimate:
    """The mean ECE that right PDs would have on these rows, with the range of such values."""
    found = Ranking.of(target, probability, settings.calibration_bins).chance_ece(settings.resamples, random)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Estimate(float(found.mean()), float(low), float(high))


def resample(target: Target, random: np.random.Generator) -> NDArray[np.float64]:
    """How often each row is drawn, with replacement and within its class, shape (n,)."""
    # Each sample keeps the number of defaults: cost and average precision depend on it, and it says nothing of a model.
    weights = np.empty(len(target))
    for outcome in (0, 1):
        rows = np.flatnonzero(target == outcome)
        weights[rows] = np.bincount(random.integers(len(rows), size=len(rows)), minlength=len(rows))
    return weights


def _level(
    level: RiskLevel, target: Target, probability: Probabilities, policy: DecisionPolicy, confidence: float
) -> LevelObservation:
    observed = observe(target, probability, policy.risk_levels(probability) == level, confidence)
    return LevelObservation(level, observed.rows, observed.mean_probability, observed.default_rate)


def _confusion(target: Target, prediction: Target) -> tuple[int, int, int, int]:
    counts = np.bincount(2 * target + prediction, minlength=4)
    return int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])


@dataclass(frozen=True, slots=True)
class Observation:
    """The mean PD of `rows` rows and their default rate with Wilson's interval; both are None for no rows."""

    rows: int
    mean_probability: float | None
    default_rate: Estimate | None


def observe(target: Target, probability: Probabilities, members: NDArray[np.bool_], confidence: float) -> Observation:
    """Observe the rows that `members` marks; all three arrays have the shape (n,).

    >>> observe(np.array([0, 1]), np.array([0.1, 0.5]), np.array([False, False]), 0.95)
    Observation(rows=0, mean_probability=None, default_rate=None)
    """
    rows = int(np.count_nonzero(members))
    if not rows:
        return Observation(0, None, None)
    rate = share_estimate(int(target[members].sum()), rows, confidence)
    return Observation(rows, float(probability[members].mean()), rate)


def observe_bands(target: Target, probability: Probabilities, bands: int, confidence: float) -> tuple[Observation, ...]:
    """Observe the ECE's bands of rising PD; they hold equally many rows as far as ties permit."""
    # PDs crowd near the default rate, about 8 % in Home Credit's data; bands of equal width would be empty above it.
    edges = np.quantile(probability, np.linspace(0, 1, bands + 1)[1:-1])
    band = np.searchsorted(edges, probability, side="right")
    return tuple(observe(target, probability, band == i, confidence) for i in np.unique(band))


def bayes_cutoff(cost_fn: float, cost_fp: float) -> float:
    """Return the cut-off on a calibrated PD that minimizes expected cost: cost_fp / (cost_fp + cost_fn).

    Source: C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.

    >>> bayes_cutoff(10, 1) == 1 / 11
    True
    """
    return cost_fp / (cost_fp + cost_fn)


def decision_policy(settings: PolicySettings) -> DecisionPolicy:
    """Make the decision policy of the settings; its cut-off is the one that the costs imply unless they state one."""
    implied = bayes_cutoff(settings.cost_fn, settings.cost_fp)
    cutoff = implied if settings.cutoff is None else settings.cutoff
    return DecisionPolicy(
        cutoff=cutoff,
        refer_from=cutoff * (1 - settings.refer_band),
        refer_to=min(1.0, cutoff * (1 + settings.refer_band)),
        level_bounds=settings.level_bounds,
        cost_fn=settings.cost_fn,
        cost_fp=settings.cost_fp,
        scale=settings.scale.build(),
        completeness=None if settings.completeness is None else settings.completeness.build(),
        explore=None if settings.explore is None else settings.explore.build(),
    )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut-off, the method that found it, and its cost per applicant on these rows."""

    method: str
    cutoff: float
    cost_per_applicant: float
    f_beta: float


def thresholds(
    target: NDArray[np.int64], probability: NDArray[np.float64], policy: DecisionPolicy, beta: float
) -> tuple[Threshold, ...]:
    """Compare the policy's cut-off with the cheapest one on these rows and the one of the best F-beta.

    The last two are chosen on the rows they are judged on: reported for comparison, never used.
    """
    search = _Search.of(target, probability, policy, beta)
    # searchsorted needs rising values, and the cut-offs fall.
    at_policy = int(np.searchsorted(-search.cutoffs, -policy.cutoff, side="right")) - 1
    return (
        Threshold("bayes", policy.cutoff, *search.judged(at_policy)),
        search.threshold("grid_search", int(np.argmin(search.cost))),
        search.threshold("f_beta", int(np.argmax(search.f_beta))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """Cost per applicant and F-beta at every distinct cut-off, from high to low; the first declines nobody."""

    cutoffs: NDArray[np.float64]
    cost: NDArray[np.float64]
    f_beta: NDArray[np.float64]

    @classmethod
    def of(
        cls, target: NDArray[np.int64], probability: NDArray[np.float64], policy: DecisionPolicy, beta: float
    ) -> _Search:
        order = np.argsort(-probability, kind="stable")
        falling, outcomes = probability[order], target[order]
        # A cut-off declines all rows of one PD or none, so only the last row of each tie counts.
        last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        hits = np.append(0, np.cumsum(outcomes)[last])
        alarms = np.append(0, np.cumsum(1 - outcomes)[last])
        missed = hits[-1] - hits
        weighted = (1 + beta * beta) * hits
        return cls(
            cutoffs=np.append(1.0, falling[last]),
            cost=(policy.cost_fn * missed + policy.cost_fp * alarms) / len(target),
            f_beta=weighted / (weighted + beta * beta * missed + alarms),
        )

    def judged(self, position: int) -> tuple[float, float]:
        return float(self.cost[position]), float(self.f_beta[position])

    def threshold(self, method: str, position: int) -> Threshold:
        return Threshold(method, float(self.cutoffs[position]), *self.judged(position))
