"""An experiment fits candidates on the same folds, compares them with the best and records them in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from jobs.commandline import Progress, table
from monitoring.measures import Estimate, auc, auc_difference, normal_estimate
from scoring.policy import DecisionPolicy
from training.dataset import Dataset
from training.evaluation import Evaluation, decision_policy, evaluate
from training.fitting import fitted_to
from training.model_families import CrossFitted, blended, candidate, cross_fit, sampled, stacked
from training.registry.tracking import commit, tracked_run
from training.report.figures import evaluation_figures
from training.report.model_report import write_figures
from training.search_settings import Family
from training.settings import EvaluationSettings, ModelSettings, TrainingSettings

Target = NDArray[np.int64]


def _directed(model: ModelSettings, directions: Mapping[str, int]) -> ModelSettings:
    # pydantic's `model_copy` checks nothing, so a direction for an unknown feature would have no effect.
    return ModelSettings.model_validate(model.model_dump() | {"monotone": dict(directions)})


def feature_engineering(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Fit LightGBM with each set of features and each way of sampling; out-of-fold predictions."""
    chosen = settings.experiments.feature_engineering
    faster = settings.model.parameters.model_copy(update={"learning_rate": chosen.learning_rate})
    model = settings.model.model_copy(update={"parameters": faster})
    candidates = [sampled(way, chosen, model, seed=settings.seed) for way in chosen.samplings]
    groups = {
        name: (settings.features.model_copy(update={"sets": sets}), candidates)
        for name, sets in chosen.feature_sets.items()
    }
    with progress.step("feature engineering", len(groups) * len(candidates) * settings.model.folds) as advance:
        return cross_fit(dataset, groups, settings, advance)


def model_selection(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Fit every model family, then blend and stack some; out-of-fold predictions."""
    chosen = settings.experiments.model_selection
    candidates = [candidate(family, settings) for family in chosen.families]
    with progress.step("model selection", len(candidates) * settings.model.folds) as advance:
        fitted = cross_fit(dataset, {"": (settings.features, candidates)}, settings, advance)
    members = [one for one in fitted if one.name in chosen.ensemble]
    return [*fitted, blended(members, dataset.target), stacked(members, dataset.target)]


def options(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Fit the delivered kind of model under each profile and with monotone features; out-of-fold predictions."""
    chosen = settings.experiments.options
    free = candidate(Family.LIGHTGBM, settings.model_copy(update={"model": _directed(settings.model, {})}))
    directed = candidate(
        Family.LIGHTGBM, settings.model_copy(update={"model": _directed(settings.model, chosen.monotone)})
    )
    groups = {
        name: (settings.features.model_copy(update={"without": without}), [free])
        for name, without in chosen.profiles.items()
    }
    if chosen.monotone:
        groups["monotone"] = (settings.features, [directed])
    with progress.step("options", len(groups) * settings.model.folds) as advance:
        return cross_fit(dataset, groups, settings, advance)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment has a name and a function that fits its candidates."""

    name: str
    fit: Callable[[Dataset, TrainingSettings, Progress], list[CrossFitted]]

    def run(self, dataset: Dataset, settings: TrainingSettings, progress: Progress) -> tuple[Compared, ...]:
        """Fit the candidates, compare each with the best and record them in MLflow."""
        settings = fitted_to(dataset, settings)
        candidates = self.fit(dataset, settings, progress)
        with progress.step("compare"):
            policy = decision_policy(settings.policy)
            compared = compare(candidates, dataset.target, policy, settings.evaluation, seed=settings.seed)
        with progress.step("MLflow"):
            tracked = getattr(settings.experiments, self.name).experiment
            record_experiment(tracked, compared, dataset, settings)
        return compared


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("model_selection", model_selection),
        Experiment("feature_engineering", feature_engineering),
        Experiment("options", options),
    )
}
"""The experiments by name, in the order in which they run."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A candidate compared with the best one.

    `auc_behind` and `cost_behind` are its AUC and its cost per applicant minus those of the best one, on the same rows.
    Their intervals hold together for all candidates (Bonferroni). Both are None for the best one.
    """

    candidate: CrossFitted
    evaluation: Evaluation
    fold_auc: tuple[float, ...]
    auc_behind: Estimate | None
    cost_behind: Estimate | None

    @property
    def verdict(self) -> str:
        """`best`; `worse` where the whole interval of the AUC difference is below 0; else `as good`."""
        # The best one is chosen on the rows that judge it, which flatters it: so `worse` needs the whole interval.
        if self.auc_behind is None:
            return "best"
        return "worse" if self.auc_behind.high < 0 else "as good"


def compare(
    candidates: Sequence[CrossFitted],
    target: Target,
    policy: DecisionPolicy,
    settings: EvaluationSettings,
    *,
    seed: int,
) -> tuple[Compared, ...]:
    """Order the candidates by falling AUC and compare each with the first, by paired differences."""
    ordered = sorted(candidates, key=lambda candidate: -auc(target, candidate.probabilities))
    # Bonferroni: the error is shared by the differences, one less than there are candidates.
    confidence = 1 - (1 - settings.confidence) / max(1, len(ordered) - 1)
    return tuple(_compared(one, ordered[0], target, policy, settings, confidence, seed) for one in ordered)


def _compared(
    one: CrossFitted,
    best: CrossFitted,
    target: Target,
    policy: DecisionPolicy,
    settings: EvaluationSettings,
    confidence: float,
    seed: int,
) -> Compared:
    behind = None if one is best else auc_difference(target, one.probabilities, best.probabilities, confidence)
    dearer = None if one is best else _cost_difference(target, one, best, policy, confidence)
    return Compared(
        candidate=one,
        evaluation=evaluate(target, one.probabilities, policy, settings, seed=seed),
        fold_auc=tuple(auc(target[rows], one.probabilities[rows]) for rows in one.judged),
        auc_behind=behind,
        cost_behind=dearer,
    )


def _cost_difference(
    target: Target, one: CrossFitted, best: CrossFitted, policy: DecisionPolicy, confidence: float
) -> Estimate:
    difference = _costs(target, one, policy) - _costs(target, best, policy)
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return normal_estimate(float(difference.mean()), error, confidence)


def _costs(target: Target, one: CrossFitted, policy: DecisionPolicy) -> NDArray[np.float64]:
    """Cost of each row's decision, shape (n,)."""
    declined = policy.predictions(one.probabilities)
    return np.where(target == 1, policy.cost_fn * (1 - declined), policy.cost_fp * declined)


_HEADINGS = ("candidate", "verdict", "AUC", "AUC - best", "AP", "Brier", "ECE", "cost", "cost - best", "seconds")


def rows(compared: Sequence[Compared]) -> Iterator[dict[str, str]]:
    """Yield the table's cells by heading, one row for each candidate."""
    for one in compared:
        cells = (
            one.candidate.name,
            one.verdict,
            str(one.evaluation["auc"]),
            _signed(one.auc_behind),
            *(f"{one.evaluation[name].value:.4f}" for name in ("average_precision", "brier", "ece")),
            f"{one.evaluation['cost_per_applicant'].value:.4f}",
            _signed(one.cost_behind),
            f"{one.candidate.seconds:.1f}",
        )
        yield dict(zip(_HEADINGS, cells, strict=True))


def table_lines(compared: Sequence[Compared]) -> Iterator[str]:
    """Format the table, line by line."""
    return table([_HEADINGS, *(tuple(row.values()) for row in rows(compared))])


def _signed(difference: Estimate | None) -> str:
    if difference is None:
        return "-"
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def record_experiment(
    experiment: str, compared: tuple[Compared, ...], dataset: Dataset, settings: TrainingSettings
) -> None:
    """Log a run for every candidate, then one for the table."""
    tracking = settings.tracking.model_copy(update={"experiment": experiment})
    for one in compared:
        with tracked_run(tracking, name=one.candidate.name):
            _record(one, dataset, settings)
    with tracked_run(tracking, name="comparison"):
        mlflow.set_tags(_tags(dataset))
        mlflow.log_dict({"rows": list(rows(compared))}, "comparison.json")
        mlflow.log_dict(settings.recorded(), "settings.json")


def _record(one: Compared, dataset: Dataset, settings: TrainingSettings) -> None:
    mlflow.set_tags({**_tags(dataset), "verdict": one.verdict})
    mlflow.log_params({"seed": settings.seed, "folds": settings.model.folds, **one.candidate.parameters})
    mlflow.log_metrics(_metrics(one))
    mlflow.log_dict(one.evaluation.to_dict(), "metrics.json")
    # The dummy gives everybody one PD, which has no bands and no distribution to draw.
    if np.ptp(one.candidate.probabilities) > 0:
        with tempfile.TemporaryDirectory() as scratch:
            _draw(Path(scratch), one, dataset, settings)
            mlflow.log_artifacts(scratch, "figures")


def _draw(folder: Path, one: Compared, dataset: Dataset, settings: TrainingSettings) -> None:
    drawn = evaluation_figures(
        dataset.target,
        one.candidate.probabilities,
        one.evaluation,
        cutoff=decision_policy(settings.policy).cutoff,
        bands=settings.evaluation.calibration_bins,
    )
    write_figures(folder, drawn)


def _metrics(one: Compared) -> dict[str, float]:
    metrics = {f"fold_{i}_auc": value for i, value in enumerate(one.fold_auc)} | {"seconds": one.candidate.seconds}
    estimates = {**one.evaluation.estimates, "auc_behind_best": one.auc_behind, "cost_behind_best": one.cost_behind}
    for name, estimate in estimates.items():
        if estimate is not None:
            metrics |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return metrics


def _tags(dataset: Dataset) -> dict[str, Any]:
    return {
        "data.sha256": dataset.fingerprint,
        "data.source": dataset.source,
        "data.rows": len(dataset),
        "code.commit": commit() or "none",
    }
