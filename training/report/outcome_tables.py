"""The tables of the outcomes analysis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from scoring import DecisionPolicy, Outcome, RiskLevel
from training.data import Dataset
from training.evaluation import Evaluation, Level, Observation, observe, observe_bands
from training.fitting import TrainedModel
from training.settings import EvaluationSettings

from .cells import NOTHING, count, decimal, held, percent, percent_span, span
from .table import Row, Table

_MEASURES = {
    "auc": ("AUC", "chance that a default gets a higher PD than a good application; 0.5 is a coin"),
    "gini": ("Gini", "2 AUC - 1"),
    "ks": ("KS", "largest distance between the PD distributions of the two outcomes"),
    "average_precision": ("average precision", "area under precision and recall; the default rate is a coin's"),
    "lift": ("lift of the riskiest", "share of all defaults that they hold, over their share of the applications"),
    "brier": ("Brier score", "mean squared error of the PD; lower is better"),
    "log_loss": ("log loss", "mean surprise at the outcome; lower is better"),
    "ece": ("ECE", "mean distance between PD and default rate over bands of equal size"),
    "calibration_slope": ("calibration slope", "1 if PDs are spread as outcomes are; lower is over-confident"),
    "calibration_intercept": ("calibration intercept", "of the same line; 0 if the slope is 1 and the level is right"),
    "precision": ("precision", "share of defaults among those predicted to default"),
    "recall": ("recall", "share of the defaults that are predicted"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "f_beta": ("F-beta", "the same, recall weighing more"),
    "declined_share": ("share at or above the cut-off", "predicted to default"),
    "cost_per_applicant": ("cost per applicant", "at the policy's costs and cut-off"),
    "cost_approve_all": ("cost of approving everybody", "per applicant"),
    "cost_ratio": ("cost ratio", "cost over that of the cheaper of approving and declining everybody"),
}
_OBSERVED = ("applications", "share", "mean PD", "default rate", "interval", "mean PD is")


def measure_table(evaluation: Evaluation) -> Table:
    """Every statistic with its interval and what it means."""

    def row(name: str) -> Row:
        label, meaning = _MEASURES[name]
        return label, decimal(evaluation[name].value), span(evaluation[name]), meaning

    head = ("measure", "value", _interval(evaluation.confidence), "meaning")
    return Table.of("lrrl", head, (row(name) for name in _MEASURES if name in evaluation.estimates))


def fold_table(trained: TrainedModel) -> Table:
    """What each fold found."""
    rows = (
        (str(i), count(len(fold.judged)), str(fold.trees), str(len(fold.features)), decimal(fold.auc))
        for i, fold in enumerate(trained.validation.folds, 1)
    )
    return Table.of("lrrrr", ("fold", "applications judged", "trees", "features", "AUC"), rows)


def level_table(evaluation: Evaluation, policy: DecisionPolicy) -> Table:
    """Observed default rate against mean PD, by risk level."""
    bounds = dict(zip(RiskLevel, _level_bounds(policy), strict=True))

    def row(level: Level) -> Row:
        observed = Observation(level.rows, level.mean_probability, level.default_rate)
        return str(level.level), bounds[level.level], *_cells(observed, evaluation.rows)

    head = ("risk level", "PD", *_observed_head(evaluation.confidence))
    return Table.of("llrrrrrl", head, map(row, evaluation.levels))


def band_table(dataset: Dataset, trained: TrainedModel, settings: EvaluationSettings) -> Table:
    """The same by bands of rising PD that hold equally many applications."""
    bands = observe_bands(dataset.target, trained.probabilities, settings.calibration_bins, settings.confidence)
    rows = ((str(i), *_cells(band, len(dataset))) for i, band in enumerate(bands, 1))
    return Table.of("rrrrrrl", ("band", *_observed_head(settings.confidence)), rows)


def decision_table(dataset: Dataset, trained: TrainedModel, confidence: float) -> Table:
    """The same by decision."""
    policy = trained.policy
    outcomes = policy.outcomes(trained.probabilities)
    bounds = dict(zip(Outcome, _ranges((policy.refer_from, policy.refer_to)), strict=True))
    rows = (
        (
            str(outcome),
            bounds[outcome],
            *_cells(observe(dataset.target, trained.probabilities, outcomes == outcome, confidence), len(dataset)),
        )
        for outcome in Outcome
    )
    return Table.of("llrrrrrl", ("decision", "PD", *_observed_head(confidence)), rows)


def confusion_table(evaluation: Evaluation) -> Table:
    """Predictions at the cut-off against outcomes."""
    true_negative, false_positive, false_negative, true_positive = evaluation.confusion
    rows = (
        ("repaid", count(true_negative), count(false_positive)),
        ("defaulted", count(false_negative), count(true_positive)),
    )
    return Table.of("lrr", ("outcome", "predicted to repay", "predicted to default"), rows)


def _cells(observed: Observation, total: int) -> Row:
    rate = observed.default_rate
    return (
        count(observed.rows),
        percent(observed.rows / total),
        percent(observed.mean_probability),
        NOTHING if rate is None else percent(rate.value),
        percent_span(rate),
        held(observed.mean_probability, rate),
    )


def _observed_head(confidence: float) -> Row:
    return tuple(_interval(confidence) if heading == "interval" else heading for heading in _OBSERVED)


def _interval(confidence: float) -> str:
    return f"{100 * confidence:g} % interval"


def _level_bounds(policy: DecisionPolicy) -> Iterator[str]:
    return _ranges(policy.level_bounds)


def _ranges(bounds: Sequence[float]) -> Iterator[str]:
    yield f"under {bounds[0]:.4g}"
    for low, high in pairwise(bounds):
        yield f"{low:.4g} to under {high:.4g}"
    yield f"{bounds[-1]:.4g} and over"
