"""A fitted model waits in a folder until MLflow has registered it.

If the tracking server fails at the end of a long training, nothing is lost: `python -m training register FOLDER`
registers the model later.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from bentoml._internal.configuration.containers import BentoMLContainer
from mlflow.exceptions import MlflowException
from pydantic import Field

from jobs.errors import OutputError, SettingsError
from jobs.settings import Settings
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.store import REPORT
from training.blocks import StoredDataset
from training.dataset import Dataset
from training.errors import RegistryError, TrackingError
from training.fitting import fitted_to
from training.registry.packaging import sha256
from training.registry.registry import DATA, OUT_OF_FOLD, OutOfFold, Registered, register
from training.registry.tracking import PORTFOLIO, log_model, without_secrets
from training.settings import TrainingSettings
from training.trainer import TrainedModel

FILES = "files"
"""The folder of a fitted model whose files its run will hold, the report included."""

_RUN, _ARTEFACT = "run.json", "artefact"


class FittedRun(Settings):
    """The values that the run and the registered version record; `version_tags` are the latter's alone."""

    run_id: str
    name: str
    digest: str
    source: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    version_tags: dict[str, str] = Field(default={})


def place_of_fitted() -> Path:
    """Return the folder in BENTOML_HOME where fitted models wait; OutputError if it cannot be written."""
    # For its owner only: the files hold a PD of every applicant of the training data.
    place = Path(BentoMLContainer.bentoml_home.get()) / "unregistered"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise OutputError(f"{place}: cannot be written; a fitted model is kept there until it is registered")
    return place


def write_fitted(
    dataset: Dataset | StoredDataset,
    trained: TrainedModel,
    artefact: Artefact,
    settings: TrainingSettings,
    *,
    run_id: str,
    version_tags: Mapping[str, str],
) -> Path:
    """Write all files of a fitted model but its report, and return their folder."""
    run = FittedRun(
        run_id=run_id,
        name=settings.tracking.model,
        digest=artefact.digest,
        source=dataset.source,
        parameters={name: str(value) for name, value in _parameters(dataset, settings, trained).items()},
        metrics=_metrics(trained),
        tags={
            "digest": artefact.digest,
            "commit": artefact.lineage["commit"] or "none",
            PORTFOLIO: dataset.portfolio.name,
            DATA: dataset.fingerprint,
            "data.source": dataset.source,
        },
        version_tags={DATA: dataset.fingerprint, **version_tags},
    )
    folder = write_run(run, artefact, OutOfFold.of(dataset, trained.probabilities))
    write_json(folder / FILES / "settings.json", fitted_to(dataset, settings).recorded())
    write_json(folder / FILES / "interpretation.json", asdict(trained.interpretation))
    return folder


def write_run(run: FittedRun, artefact: Artefact, out_of_fold: OutOfFold) -> Path:
    """Write what every version has, into a folder whose other files the caller adds, and return it."""
    folder = place_of_fitted() / run.run_id
    files = folder / FILES
    folder.mkdir(mode=0o700)
    (files / OUT_OF_FOLD).parent.mkdir(parents=True)
    write_json(folder / _RUN, run.model_dump())
    write_json(files / "metrics.json", artefact.metrics)
    out_of_fold.write(files / OUT_OF_FOLD)
    artefact.write(folder / _ARTEFACT)
    return folder


def register_fitted(folder: Path) -> Registered:
    """Record a fitted model in the active run, register it and remove its folder.

    TrackingError if MLflow fails; the folder stays.
    """
    run = _read(folder)
    report = folder / FILES / REPORT
    # All of it may be repeated after a failure: MLflow takes a parameter again if its value is the same.
    try:
        mlflow.log_params(run.parameters)
        mlflow.log_metrics(run.metrics)
        mlflow.set_tags(run.tags)
        mlflow.log_artifacts(str(folder / FILES))
        model = log_model(folder / _ARTEFACT, report)
        registered = register(
            run.name,
            model,
            digest=run.digest,
            run_id=run.run_id,
            source=run.source,
            report=sha256(report),
            tags=run.version_tags,
        )
    except (MlflowException, OSError) as error:
        reason = without_secrets(error)
        raise TrackingError(
            f"the model is fitted, but was not registered ({reason}): `python -m training register {folder}` does it"
        ) from None
    # Removed last: until the version is registered, the folder holds the only copy of a long training.
    shutil.rmtree(folder)
    return registered


def run_of_fitted(folder: Path) -> str:
    """Return the run id of a fitted model; RegistryError if the folder holds none or an altered one."""
    run = _read(folder)
    try:
        Artefact.read(folder / _ARTEFACT, digest=run.digest)
    except ArtefactError as error:
        raise RegistryError(str(error)) from None
    return run.run_id


def _read(folder: Path) -> FittedRun:
    try:
        return FittedRun.checked(json.loads((folder / _RUN).read_text(encoding="utf-8")), folder / _RUN)
    # Deeply nested JSON ends in a RecursionError.
    except (OSError, RecursionError, ValueError, SettingsError):
        raise RegistryError(f"{folder}: holds no fitted model that `python -m training run` left there") from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of a run."""
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _parameters(dataset: Dataset | StoredDataset, settings: TrainingSettings, trained: TrainedModel) -> dict[str, Any]:
    used, stated = fitted_to(dataset, settings).model.parameters.stated(), settings.model.parameters.stated()
    return {
        "seed": settings.seed,
        "folds": settings.model.folds,
        "trees": trained.validation.trees,
        "features": len(trained.features.names),
        "feature_sets": ",".join(settings.features.sets),
        "without": ",".join(settings.features.without) or "nothing",
        "cutoff": trained.policy.cutoff,
        "parameters_from_data": ",".join(name for name in used if name not in stated) or "none",
        **used,
    }


def _metrics(trained: TrainedModel) -> dict[str, float]:
    metrics = {f"fold_{i}_auc": fold.auc for i, fold in enumerate(trained.validation.folds)}
    estimates = {**trained.evaluation.estimates, "price_of_protected_attributes": trained.price}
    if trained.monotone_price is not None:
        estimates["price_of_monotone_features"] = trained.monotone_price
    if trained.later is not None:
        estimates |= {f"later_{name}": estimate for name, estimate in trained.later.estimates.items()}
    for name, estimate in estimates.items():
        metrics |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return metrics
