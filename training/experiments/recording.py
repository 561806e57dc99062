"""An experiment in MLflow: one run for each candidate, and one that holds the table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from training.data import Dataset
from training.evaluation import decision_policy
from training.registry import commit, tracked_run
from training.report import evaluation_figures, write_figures
from training.settings import TrainingSettings

from .comparison import Compared
from .table import rows


def record_experiment(
    experiment: str, compared: tuple[Compared, ...], dataset: Dataset, settings: TrainingSettings
) -> None:
    """Log every candidate, then the table."""
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
