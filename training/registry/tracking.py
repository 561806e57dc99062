"""Recording a training run in MLflow."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.types.schema import ColSpec, Schema
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from scoring import REPORT, Artefact
from training.data import Dataset
from training.errors import TrackingError
from training.fitting import TrainedModel
from training.scratch import holder, is_gone
from training.settings import TrackingSettings, TrainingSettings, address_fault, secrets_of, without_credentials

from .out_of_fold import OutOfFold
from .packaging import package_code
from .registry import OUT_OF_FOLD

_ROOT = Path(__file__).resolve().parent.parent.parent
_SQLITE = "sqlite:///"
_HOLDER = "process"
"""The tag of a run by which the next one can tell whether its process still lives."""
_UPGRADE = "mlflow db upgrade"
_SERVED_WITH = ("lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy")


def connect(settings: TrackingSettings, *, make: bool = False) -> None:
    """Point MLflow at the configured server or database; `make` makes a local database if it is absent.

    TrackingError, without a password that the address may hold, if nothing that MLflow knows answers there.
    """
    if fault := address_fault(settings.uri):
        raise TrackingError(f"{without_credentials(settings.uri)}: {fault}")
    try:
        if settings.uri.startswith(_SQLITE):
            database = Path(settings.uri.removeprefix(_SQLITE))
            if make:
                database.parent.mkdir(parents=True, exist_ok=True)
            elif not database.is_file():
                raise TrackingError(f"{settings.uri}: no such database; `python -m training run` makes one")
        _answers(settings.uri)
        mlflow.set_tracking_uri(settings.uri)
        mlflow.set_registry_uri(settings.uri)
        MlflowClient().search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        shown = without_credentials(settings.uri)
        raise TrackingError(f"{shown}: no MLflow tracking there ({_reason(error, settings.uri)})") from None


def without_secrets(error: MlflowException) -> str:
    """What MLflow says, unless it quotes a secret of the address in use; then only what kind of error it is."""
    return _reason(error, mlflow.get_tracking_uri())


def _reason(error: Exception, uri: str) -> str:
    """The first sentence of what is said, or MLflow's remedy; only what kind of error where it quotes a secret."""
    if _UPGRADE in str(error):
        return f"its schema is of another MLflow; back the database up, then run `{_UPGRADE}` with its address"
    said = str(error).partition("\n")[0].partition(". ")[0].replace(uri.rstrip("/"), "").strip()
    return type(error).__name__ if any(secret in said for secret in ("@", *secrets_of(uri))) else said


def _answers(uri: str) -> None:
    """Try a database once: MLflow tries for minutes, and says so at every turn."""
    if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


@contextmanager
def tracked_run(settings: TrackingSettings, name: str) -> Iterator[str]:
    """An MLflow run in the configured experiment, by its id; it ends as failed if the block raises.

    A run whose process was killed cannot say so: the next one here ends it as killed.
    """
    connect(settings, make=True)
    _prepare_experiment(settings)
    _end_killed_runs(mlflow.set_experiment(settings.experiment).experiment_id)
    this = holder()
    with mlflow.start_run(run_name=name, tags={_HOLDER: this} if this else None) as run:
        yield str(run.info.run_id)


def _end_killed_runs(experiment: str) -> None:
    client = MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if is_gone(run.data.tags.get(_HOLDER, "")):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _prepare_experiment(settings: TrackingSettings) -> None:
    """The experiment is there, and what is kept with it can be kept; TrackingError if its folder is gone."""
    location = _artefact_location(settings)
    found = mlflow.get_experiment_by_name(settings.experiment)
    if found is None:
        mlflow.create_experiment(settings.experiment, artifact_location=location)
        return
    kept = str(found.artifact_location)
    folder = Path(kept.removeprefix("file://"))
    if location not in (None, kept) and kept.startswith("file:") and not folder.is_dir():
        raise TrackingError(
            f"{settings.uri}: keeps the files of its runs in {folder}, which is not there: was the project moved? "
            "Move it back, or name a new database with --tracking-uri"
        )


def record(
    dataset: Dataset, trained: TrainedModel, artefact: Artefact, settings: TrainingSettings, *, shown: Path
) -> str:
    """Log parameters, metrics and the model to the active run, and all of the folder `shown`; the model's address.

    `shown` holds the report, which goes into the logged model too, beside the artefact.
    """
    mlflow.log_params(_parameters(settings, trained))
    mlflow.log_metrics(_metrics(trained))
    mlflow.set_tags(
        {
            "digest": artefact.digest,
            "commit": artefact.lineage["commit"] or "none",
            "data.sha256": dataset.fingerprint,
            "data.source": dataset.source,
        }
    )
    mlflow.log_dict(trained.metrics(), "metrics.json")
    mlflow.log_dict(settings.recorded(), "settings.json")
    mlflow.log_dict(asdict(trained.interpretation), "interpretation.json")
    mlflow.log_artifacts(str(shown))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        OutOfFold.of(dataset, trained.probabilities).write(folder / Path(OUT_OF_FOLD).name)
        mlflow.log_artifact(str(folder / Path(OUT_OF_FOLD).name), Path(OUT_OF_FOLD).parent.as_posix())
        artefact.write(folder / "artefact")
        return str(_log_model(folder / "artefact", shown / REPORT).model_uri)


def commit() -> str | None:
    """The commit of the checkout, with `-dirty` where files differ from it; None where there is none."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    return f"{head}-dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str:
    """What git says; nothing where there is no git."""
    try:
        answer = subprocess.run(  # noqa: S603 - only what this module says
            ["git", *arguments],  # noqa: S607 - git is found on the path as everywhere
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return answer.stdout.strip()


def _artefact_location(settings: TrackingSettings) -> str | None:
    if not settings.uri.startswith(_SQLITE):
        return None
    return (Path(settings.uri.removeprefix(_SQLITE)).resolve().parent / "artifacts").as_uri()


def _log_model(artefact: Path, report: Path) -> Any:
    with warnings.catch_warnings():
        # An example would be applicants' data, and MLflow would score it once more.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        return _logged(artefact, report)


def _logged(artefact: Path, report: Path) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        code = package_code(Path(scratch))
        with code.importable():
            return mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code.loader),
                artifacts={"artefact": str(artefact), "report": str(report)},
                code_paths=[str(code.folder)],
                pip_requirements=[f"{name}=={version(name)}" for name in _SERVED_WITH],
                signature=_signature(),
            )


def _signature() -> ModelSignature:
    """What comes out. Input has no types for MLflow to enforce: it would refuse whole numbers, and CSV as a whole."""
    outputs = [("probability", "double"), ("prediction", "long"), ("decision", "string"), ("risk_level", "string")]
    return ModelSignature(outputs=Schema([ColSpec(t, n) for n, t in [*outputs, ("score", "long")]]))


def _parameters(settings: TrainingSettings, trained: TrainedModel) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "folds": settings.model.folds,
        "trees": trained.validation.trees,
        "features": len(trained.features.names),
        "feature_sets": ",".join(settings.features.sets),
        "without": ",".join(settings.features.without) or "nothing",
        "cutoff": trained.policy.cutoff,
        **settings.model.parameters.stated(),
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
