"""A search in MLflow: one run for each finished trial, and one for the search."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import mlflow
from matplotlib.figure import Figure
from optuna.study import Study
from optuna.trial import FrozenTrial

from training.data import Dataset
from training.registry import commit, connect, tracked_run
from training.settings import TrackingSettings, TrainingSettings

from .nested import NestedEstimate
from .objective import FOLDS
from .study import FINISHED


def record_trials(study: Study, dataset: Dataset, settings: TrainingSettings) -> None:
    """Log every finished trial that has no run yet, those of a process that was killed included."""
    tracking = settings.tracking.model_copy(update={"experiment": settings.tuning.experiment})
    recorded = _recorded(study, tracking)
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        if str(trial.number) not in recorded:
            with tracked_run(tracking, name=f"{study.study_name} {trial.number}"):
                _record(trial, study, dataset, settings)


def record_search(study: Study, nested: NestedEstimate | None, dataset: Dataset, settings: TrainingSettings) -> None:
    """Log the winner, the course of the search and the nested estimate."""
    tracking = settings.tracking.model_copy(update={"experiment": settings.tuning.experiment})
    best = study.best_trial
    with tracked_run(tracking, name=study.study_name), tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tags(_tags(study, dataset))
        mlflow.log_params({**best.params, "objective": settings.tuning.objective.value, "best_trial": best.number})
        mlflow.log_metric("value", float(best.values[0]))
        mlflow.log_dict(settings.recorded(), "settings.json")
        if nested is not None:
            mlflow.log_metrics({"optimism": nested.optimism, **_interval("nested_auc", nested), **_gain(nested)})
            mlflow.log_dict(asdict(nested), "nested.json")
        _history(study).savefig(Path(scratch) / "history.png", dpi=130, metadata={"Software": None})
        mlflow.log_artifacts(scratch, "figures")


def _recorded(study: Study, tracking: TrackingSettings) -> set[str]:
    """Numbers of the trials that have a run."""
    connect(tracking, make=True)
    if mlflow.get_experiment_by_name(tracking.experiment) is None:
        return set()
    runs = mlflow.search_runs(
        experiment_names=[tracking.experiment],
        filter_string=f"tags.study = '{study.study_name}' and attributes.status = 'FINISHED'",
        output_format="list",
    )
    return {run.data.tags["trial"] for run in runs if "trial" in run.data.tags}


def _record(trial: FrozenTrial, study: Study, dataset: Dataset, settings: TrainingSettings) -> None:
    folds = trial.user_attrs[FOLDS]
    mlflow.set_tags({**_tags(study, dataset), "trial": trial.number, "state": trial.state.name})
    mlflow.log_params({**trial.params, "objective": settings.tuning.objective.value, "seed": settings.seed})
    for i, fold in enumerate(folds):
        mlflow.log_metrics({f"fold_{i}_{settings.tuning.objective}": fold["score"], f"fold_{i}_trees": fold["trees"]})
    mlflow.log_metric("seconds", sum(fold["seconds"] for fold in folds))
    if trial.values:
        mlflow.log_metric("value", trial.values[0])


def _tags(study: Study, dataset: Dataset) -> dict[str, str]:
    return {
        "study": study.study_name,
        "data.sha256": dataset.fingerprint,
        "data.source": dataset.source,
        "code.commit": commit() or "none",
    }


def _interval(name: str, nested: NestedEstimate) -> dict[str, float]:
    return {name: nested.auc.value, f"{name}_low": nested.auc.low, f"{name}_high": nested.auc.high}


def _gain(nested: NestedEstimate) -> dict[str, float]:
    return {"gain": nested.gain.value, "gain_low": nested.gain.low, "gain_high": nested.gain.high}


def _history(study: Study) -> Figure:
    complete = [trial for trial in study.trials if trial.values]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=f"Search {study.study_name}", xlabel="trial", ylabel="mean over the folds")
    axes.plot([trial.number for trial in complete], [trial.values[0] for trial in complete], "o", color="#2166ac")
    axes.plot(study.best_trial.number, study.best_trial.values[0], "o", color="#b2182b", label="best")
    axes.legend(frameon=False)
    return figure
