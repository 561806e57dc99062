"""How good a model is: statistics with intervals, risk levels, thresholds and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.measures import Estimate, Ranking, auc_estimate, fit_line, normal_estimate
from scoring import DecisionPolicy, RiskLevel
from training.settings import EvaluationSettings

from .observation import observe
from .thresholds import Threshold, thresholds

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Level:
    """What was observed of one risk level."""

    level: RiskLevel
    rows: int
    mean_probability: float | None
    default_rate: Estimate | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured on `rows` rows with known outcome, of which `defaults` defaulted.

    `confidence` is that of every interval. `confusion` counts true negatives, false positives, false negatives and
    true positives at the policy's cut-off.
    """

    rows: int
    defaults: int
    confidence: float
    estimates: Mapping[str, Estimate]
    levels: tuple[Level, ...]
    thresholds: tuple[Threshold, ...]
    confusion: tuple[int, int, int, int]

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def evaluate(
    target: Target, probability: Probabilities, policy: DecisionPolicy, settings: EvaluationSettings, *, seed: int
) -> Evaluation:
    """Statistics of PDs against outcomes, both of shape (n,).

    AUC and Gini carry DeLong's interval, the calibration line Wald's, shares Wilson's, and the others percentiles of a
    bootstrap stratified by outcome (B. Efron and R. Tibshirani, 1993).
    """
    return Evaluation(
        rows=len(target),
        defaults=int(target.sum()),
        confidence=settings.confidence,
        estimates={
            **_discrimination(target, probability, settings.confidence),
            **_calibration_line(target, probability, settings.confidence),
            **_resampled(target, probability, policy, settings, np.random.default_rng(seed)),
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
    ranking = Ranking.of(target, probability, settings.calibration_bins)
    measured = ranking.statistics(np.ones(len(target)), policy, settings)
    samples = [
        ranking.statistics(_resample(ranking.target, random), policy, settings) for _ in range(settings.resamples)
    ]
    tail = (1 - settings.confidence) / 2
    ends = {name: np.quantile([sample[name] for sample in samples], [tail, 1 - tail]) for name in measured}
    return {name: Estimate(value, float(ends[name][0]), float(ends[name][1])) for name, value in measured.items()}


def _resample(target: Target, random: np.random.Generator) -> NDArray[np.float64]:
    """How often each row is drawn when each class is drawn with replacement, as often as it has rows."""
    weights = np.empty(len(target))
    for outcome in (0, 1):
        rows = np.flatnonzero(target == outcome)
        weights[rows] = np.bincount(random.integers(len(rows), size=len(rows)), minlength=len(rows))
    return weights


def _level(
    level: RiskLevel, target: Target, probability: Probabilities, policy: DecisionPolicy, confidence: float
) -> Level:
    observed = observe(target, probability, policy.risk_levels(probability) == level, confidence)
    return Level(level, observed.rows, observed.mean_probability, observed.default_rate)


def _confusion(target: Target, prediction: Target) -> tuple[int, int, int, int]:
    counts = np.bincount(2 * target + prediction, minlength=4)
    return int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])
