"""Tables of the report show outcomes, prices, gates and groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitoring.measures import Estimate
from scoring.policy import DecisionKind, DecisionPolicy, RiskLevel
from training.dataset import Dataset
from training.evaluation import Evaluation, LevelObservation, Observation, Threshold, observe, observe_bands
from training.gates import Gate, GroupPerformance, evaluation_gates, group_performances, members, screen
from training.report.figures import (
    NOTHING,
    ReportTable,
    Row,
    count,
    decimal,
    percent,
    percent_span,
    place_in_interval,
    signed,
    span,
)
from training.settings import EvaluationSettings, GateSettings, TrainingSettings
from training.trainer import TrainedModel

_MEASURES = {
    "auc": ("AUC", "chance that a default gets a higher PD than a good application; 0.5 is a coin"),
    "gini": ("Gini", "2 AUC - 1"),
    "ks": ("KS", "largest distance between the PD distributions of the two outcomes"),
    "average_precision": ("average precision", "area under precision and recall; the default rate is a coin's"),
    "lift": ("lift of the riskiest", "share of all defaults that they hold, over their share of the applications"),
    "brier": ("Brier score", "mean squared error of the PD; lower is better"),
    "log_loss": ("log loss", "mean surprise at the outcome; lower is better"),
    "ece": ("ECE", "mean distance between PD and default rate over bands of equal size"),
    "ece_by_chance": ("ECE by chance", "the ECE that right PDs would have on as many applications"),
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


def measure_table(evaluation: Evaluation) -> ReportTable:
    """Show every statistic with its interval and its meaning."""

    def row(name: str) -> Row:
        label, meaning = _MEASURES[name]
        return label, decimal(evaluation[name].value), span(evaluation[name]), meaning

    head = ("measure", "value", _interval(evaluation.confidence), "meaning")
    return ReportTable.of("lrrl", head, (row(name) for name in _MEASURES if name in evaluation.estimates))


def fold_table(trained: TrainedModel) -> ReportTable:
    """Show the rows, trees, features and AUC of each fold."""
    rows = (
        (str(i), count(len(fold.judged)), str(fold.trees), str(len(fold.features)), decimal(fold.auc))
        for i, fold in enumerate(trained.validation.folds, 1)
    )
    return ReportTable.of("lrrrr", ("fold", "applications judged", "trees", "features", "AUC"), rows)


def level_table(evaluation: Evaluation, policy: DecisionPolicy) -> ReportTable:
    """Compare observed default rate and mean PD by risk level."""
    bounds = dict(zip(RiskLevel, _level_bounds(policy), strict=True))

    def row(level: LevelObservation) -> Row:
        observed = Observation(level.rows, level.mean_probability, level.default_rate)
        return str(level.level), bounds[level.level], *_cells(observed, evaluation.rows)

    head = ("risk level", "PD", *_observed_head(evaluation.confidence))
    return ReportTable.of("llrrrrrl", head, map(row, evaluation.levels))


def band_table(dataset: Dataset, trained: TrainedModel, settings: EvaluationSettings) -> ReportTable:
    """Compare observed default rate and mean PD by bands of rising PD that hold equally many applications."""
    bands = observe_bands(dataset.target, trained.probabilities, settings.calibration_bins, settings.confidence)
    rows = ((str(i), *_cells(band, len(dataset))) for i, band in enumerate(bands, 1))
    return ReportTable.of("rrrrrrl", ("band", *_observed_head(settings.confidence)), rows)


def decision_table(dataset: Dataset, trained: TrainedModel, confidence: float) -> ReportTable:
    """Compare observed default rate and mean PD by decision."""
    policy = trained.policy
    outcomes = policy.outcomes(trained.probabilities)
    bounds = dict(zip(DecisionKind, _ranges((policy.refer_from, policy.refer_to)), strict=True))
    rows = (
        (
            str(outcome),
            bounds[outcome],
            *_cells(observe(dataset.target, trained.probabilities, outcomes == outcome, confidence), len(dataset)),
        )
        for outcome in DecisionKind
    )
    return ReportTable.of("llrrrrrl", ("decision", "PD", *_observed_head(confidence)), rows)


def confusion_table(evaluation: Evaluation) -> ReportTable:
    """Count predictions at the cut-off against outcomes."""
    true_negative, false_positive, false_negative, true_positive = evaluation.confusion
    rows = (
        ("repaid", count(true_negative), count(false_positive)),
        ("defaulted", count(false_negative), count(true_positive)),
    )
    return ReportTable.of("lrr", ("outcome", "predicted to repay", "predicted to default"), rows)


def _cells(observed: Observation, total: int) -> Row:
    rate = observed.default_rate
    return (
        count(observed.rows),
        percent(observed.rows / total),
        percent(observed.mean_probability),
        NOTHING if rate is None else percent(rate.value),
        percent_span(rate),
        place_in_interval(observed.mean_probability, rate),
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


_DIRECTIONS = {-1: "may only lower the PD", 1: "may only raise the PD"}


def price_table(trained: TrainedModel, settings: TrainingSettings) -> ReportTable:
    """Show the price of each policy that a lender chooses, measured on the folds of the training."""
    head = ("policy", "setting", "price", f"{100 * trained.evaluation.confidence:g} % interval", "measured as")
    return ReportTable.of("llrrl", head, _prices(trained, settings))


def _prices(trained: TrainedModel, settings: TrainingSettings) -> Iterator[Row]:
    without = settings.features.without
    free = "AUC that the model would gain without this policy, paired on the same rows"
    if without:
        named = ", ".join(attribute.replace("_", " ") for attribute in without)
        yield "protected attributes out", named, *_auc(trained.price), free
    else:
        yield "protected attributes out", "none is kept out", "none", NOTHING, "nothing was given up"
    if trained.monotone_price is None:
        yield "features held to a direction", "none", "none", NOTHING, "nothing was given up"
    else:
        directions = ", ".join(f"{name} {_DIRECTIONS[way]}" for name, way in settings.model.monotone.items())
        yield "features held to a direction", directions, *_auc(trained.monotone_price), free
    referred = np.count_nonzero(trained.policy.outcomes(trained.probabilities) == DecisionKind.REFER)
    share, people = percent(float(referred) / len(trained.probabilities)), count(int(referred))
    band = f"PD {trained.policy.refer_from:.4f} to {trained.policy.refer_to:.4f}"
    yield (
        "refer band",
        band,
        share,
        NOTHING,
        f"applications that a person decides, {people} of those judged",
    )


def _auc(price: Estimate) -> tuple[str, str]:
    return f"{decimal(price.value)} AUC", span(price)


def cutoff_table(trained: TrainedModel, beta: float) -> ReportTable:
    """Compare the cut-off that the costs imply with those that a search on the same rows picks."""
    names = {
        "bayes": "implied by the costs: the policy's",
        "grid_search": "cheapest on these very rows",
        "f_beta": f"best F-{beta:g} on these very rows: the original design",
    }
    # The first is the policy's. The searched ones are chosen on the rows that judge them, so they look too good.
    used = trained.evaluation.thresholds[0].cost_per_applicant

    def row(threshold: Threshold) -> Row:
        cost = threshold.cost_per_applicant
        figures = (decimal(threshold.cutoff), decimal(cost), signed(cost - used), decimal(threshold.f_beta))
        return names[threshold.method], *figures

    head = ("cut-off", "PD", "cost per applicant", "against the policy's", f"F-{beta:g}")
    return ReportTable.of("lrrrr", head, map(row, trained.evaluation.thresholds))


def training_gates(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings) -> tuple[Gate, ...]:
    """Judge the gates that need no registry, on the later applications or, without these, out of fold.

    The approvals of later applications are not known here; they are screened at promotion.
    """
    limits = settings.gates
    if trained.later is not None:
        return tuple(evaluation_gates(trained.later, limits))
    screening = screen(dataset.columns, trained.probabilities, trained.policy, limits.fairness)
    return (*evaluation_gates(trained.evaluation, limits), *screening.gates(limits))


def gate_table(gates: tuple[Gate, ...], limits: GateSettings, *, screened: bool) -> ReportTable:
    """Show every gate with its limit; those of the registry, and approvals not `screened` here, follow at promotion."""
    met = {"passed": "met", "FAILED": "missed"}
    judged = ((gate.name, gate.figure, gate.limit, met.get(gate.result, gate.result)) for gate in gates)
    rows = (*judged, *_gates_at_promotion(limits, screened=screened))
    return ReportTable.of("lrrl", ("gate", "figure", "limit", "here"), rows)


def _gates_at_promotion(limits: GateSettings, *, screened: bool) -> Iterator[Row]:
    at = "at promotion"
    if not screened:
        yield "adverse impact ratios (screening)", NOTHING, f"at least {limits.fairness.min_impact_ratio:g}", at
    yield "AUC minus the champion's, lower end", NOTHING, f"at least {-limits.max_auc_loss:g}", at
    yield "cost minus the champion's, upper end", NOTHING, f"at most {limits.max_cost_increase:g}", at
    yield "first reasons that differ from the champion's", NOTHING, f"at most {limits.reasons.max_changed:g}", at
    yield "median time of one application", NOTHING, f"at most {limits.latency.max_milliseconds:g} ms", at
    yield "probabilities that differ after the import", NOTHING, "at most 0", at
    yield "data, against the champion's", NOTHING, "real, if that is", at


# Applicants may keep a protected attribute to themselves, and some are in no declared level (XNA).
_NOT_STATED = "other or not stated"


def performance_by_group(
    dataset: Dataset, trained: TrainedModel, settings: TrainingSettings
) -> dict[str, tuple[GroupPerformance, ...]]:
    """Measure the groups of each protected attribute; the last group holds those who stated none."""
    approved = np.asarray(trained.policy.outcomes(trained.probabilities) == DecisionKind.APPROVE)
    return {
        attribute: group_performances(
            attribute,
            _with_the_rest(members(dataset.columns, attribute)),
            target=dataset.target,
            probability=trained.probabilities,
            approved=approved,
            min_rows=settings.report.min_rows,
            min_outcomes=settings.report.min_outcomes,
            confidence=settings.evaluation.confidence,
        )
        for attribute in dataset.columns.schema.attributes
    }


def _with_the_rest(marked: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    # So that the groups of an attribute add up to all applications.
    return {**marked, _NOT_STATED: ~np.logical_or.reduce(list(marked.values()))}


def group_table(groups: tuple[GroupPerformance, ...]) -> ReportTable:
    """Show a row for each group that has an applicant."""
    head = ("group", "applications", "approved", "ratio", "default rate", "mean PD", "it is", "AUC")
    rows = (_row(group) for group in groups if group.group.rows)
    return ReportTable.of("lrrrrrlr", head, rows)


def _row(performance: GroupPerformance) -> Row:
    group, observed, area = performance.group, performance.observed, performance.auc
    # A rate of few applicants would tell of these people rather than of the model.
    if observed is None or performance.impact_ratio is None or observed.default_rate is None:
        return group.name, count(group.rows), *[NOTHING] * 6
    rate = observed.default_rate
    return (
        group.name,
        count(group.rows),
        percent(group.share),
        decimal(performance.impact_ratio.value),
        f"{percent(rate.value)} ({percent_span(rate)})",
        percent(observed.mean_probability),
        place_in_interval(observed.mean_probability, rate),
        NOTHING if area is None else f"{decimal(area.value)} ({span(area)})",
    )
