"""MLflow records training runs; a run whose process was killed is ended by the next one.

A process that lives holds the scratch folder of its command (`as_command`).
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from bentoml.exceptions import BentoMLException
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.types.schema import ColSpec, Schema
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import OutputError
from jobs.output import is_held, take_lock
from jobs.settings import printable
from training.errors import RegistryError, TrackingError
from training.registry.packaging import package_code
from training.search_settings import address_fault, secrets_of, without_credentials
from training.settings import TrackingSettings

_Options = ParamSpec("_Options")
_Code = TypeVar("_Code", int, None)
"""What a command returns: its exit code, or nothing for 0."""
_PREFIX = "credit-scoring-training-"
_own_folders: list[str] = []


def as_command(command: Callable[_Options, _Code]) -> Callable[_Options, _Code]:
    """Return the command with a scratch folder of its own; what libraries and the system refuse is a ProjectError."""

    @wraps(command)
    def working(*args: _Options.args, **options: _Options.kwargs) -> _Code:
        try:
            with scratch():
                return command(*args, **options)
        except MlflowException as error:  # the server may be gone by now, and its address may hold a password
            raise TrackingError(f"MLflow: {without_secrets(error)}") from None
        except BentoMLException as error:
            raise RegistryError(str(error)) from None
        except OSError as error:  # a full disk, a folder that cannot be written
            raise OutputError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None

    return working


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for all temporary files of this process; first remove the folders of killed processes."""
    place, before = Path(tempfile.gettempdir()), tempfile.tempdir
    _remove_left_over(place)
    new = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    lock = os.open(new, os.O_RDONLY)
    try:
        take_lock(lock)
        folder = new.rename(place / new.name.removeprefix("."))  # under this name only while it is held
        tempfile.tempdir = str(folder)
        _own_folders.append(f"{_machine()} {folder}")
        try:
            yield folder
        finally:
            _own_folders.pop()
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def holder() -> str | None:
    """Name this process in a way that `is_gone` understands; None outside a command."""
    return _own_folders[-1] if _own_folders else None


def is_gone(holder: str) -> bool:
    """Tell whether the process that `holder` names has ended; False for another machine's, which cannot be asked."""
    machine = f"{_machine()} "
    return holder.startswith(machine) and not _is_held(Path(holder.removeprefix(machine)))


def _remove_left_over(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if folder.lstat().st_uid == os.getuid() and folder.is_dir() and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    try:
        return is_held(folder)
    except OSError:  # it is not there
        return False


ACTOR_VARIABLE = "CREDIT_SCORING_ACTOR"
"""The environment variable that names who acts, such as the user of a pipeline; it goes into the registry's history."""
_LONGEST_ACTOR = 200


def actor(environment: Mapping[str, str]) -> str:
    """Name who acts: as the environment says, or the user at MLflow's server, or the system's user and machine.

    >>> actor({"CREDIT_SCORING_ACTOR": "pipeline 7"}), actor({"MLFLOW_TRACKING_USERNAME": "ada"})
    ('pipeline 7', 'ada')
    """
    named = environment.get(ACTOR_VARIABLE) or environment.get("MLFLOW_TRACKING_USERNAME")
    return printable(named or f"{_user()}@{socket.gethostname()}")[:_LONGEST_ACTOR]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the number of a user in a container, who has no name
        return str(os.getuid())


def _machine() -> str:
    """Host and view of the file system: containers may share a host's name, and see other folders."""
    try:
        view = str(Path("/proc/self/ns/mnt").readlink())
    except OSError:
        view = "mnt"
    return f"{socket.gethostname()} {view}"


_ROOT = Path(__file__).resolve().parent.parent.parent
_SQLITE = "sqlite:///"
_HOLDER = "process"
"""The tag of a run that names its process, so that a later run can tell whether it still lives."""
_UPGRADE = "mlflow db upgrade"
_SERVED_WITH = ("lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy")


PORTFOLIO = "portfolio"
"""The tag of a run that names the portfolio of its model."""


def portfolio_of_run(run_id: str) -> str | None:
    """Name the portfolio whose model a run made; None if the run says none, or was deleted."""
    try:
        return MlflowClient().get_run(run_id).data.tags.get(PORTFOLIO)
    except MlflowException:
        return None


def connect(settings: TrackingSettings, *, make: bool = False) -> None:
    """Connect MLflow to the configured server or database; `make` creates a local database if it is absent.

    TrackingError if no MLflow answers there; the message never holds a password of the address.
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
        _try_database(settings.uri)
        mlflow.set_tracking_uri(settings.uri)
        mlflow.set_registry_uri(settings.uri)
        MlflowClient().search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        shown = without_credentials(settings.uri)
        raise TrackingError(f"{shown}: no MLflow tracking there ({_reason(error, settings.uri)})") from None


def without_secrets(error: Exception) -> str:
    """Return the first sentence of an MLflow error, or only its kind if the sentence quotes a secret."""
    return _reason(error, mlflow.get_tracking_uri())


def _reason(error: Exception, uri: str) -> str:
    """The error's first sentence or MLflow's remedy; only the kind of error if the sentence quotes a secret."""
    if _UPGRADE in str(error):
        return f"its schema is of another MLflow version; back the database up, then run `{_UPGRADE}` with its address"
    said = str(error).partition("\n")[0].partition(". ")[0].replace(uri.rstrip("/"), "").strip()
    return type(error).__name__ if any(secret in said for secret in ("@", *secrets_of(uri))) else said


def _try_database(uri: str) -> None:
    """Connect to a database once."""
    # MLflow would try for minutes and log a line at each attempt.
    if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


@contextmanager
def tracked_run(settings: TrackingSettings, name: str) -> Iterator[str]:
    """Start an MLflow run in the configured experiment and yield its id; it ends as failed if the block raises."""
    connect(settings, make=True)
    _prepare_experiment(settings)
    # MLflow shows the run of a killed process as running for ever.
    _end_killed_runs(mlflow.set_experiment(settings.experiment).experiment_id)
    this = holder()
    run = mlflow.start_run(run_name=name, tags={_HOLDER: this} if this else None)
    with _ending_run():
        yield str(run.info.run_id)


@contextmanager
def resumed_run(settings: TrackingSettings, run_id: str) -> Iterator[None]:
    """Resume a run that was started before; TrackingError if it is not there."""
    connect(settings)
    try:
        mlflow.start_run(run_id=run_id)
    except MlflowException as error:
        raise TrackingError(f"run {run_id} cannot be resumed: {without_secrets(error)}") from None
    with _ending_run():
        yield


@contextmanager
def _ending_run() -> Iterator[None]:
    """End the active run as finished, or as failed if the block raises."""
    try:
        yield
    except BaseException:
        with suppress(MlflowException):  # the block's error tells more than that MLflow does not answer
            mlflow.end_run(RunStatus.to_string(RunStatus.FAILED))
        raise
    mlflow.end_run()


def _end_killed_runs(experiment: str) -> None:
    client = MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if is_gone(run.data.tags.get(_HOLDER, "")):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _prepare_experiment(settings: TrackingSettings) -> None:
    """Create the experiment if it is absent; TrackingError if the folder of its files is gone."""
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


def commit() -> str | None:
    """Return the commit of the checkout, with `-dirty` if files differ from it; None outside a repository."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    return f"{head}-dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str:
    """Git's answer; empty if git is not installed."""
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


def log_model(artefact: Path, report: Path) -> str:
    """Log a model and its report to the active run, and return the model's address."""
    with warnings.catch_warnings():
        # An example would be applicants' data, and MLflow would score it once more.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        return str(_logged(artefact, report).model_uri)


def _logged(artefact: Path, report: Path) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        code = package_code(Path(scratch))
        with code.importable():
            return mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code.loader),
                artifacts={"artefact": str(artefact), "report": str(report)},
                code_paths=[str(code.folder)],
                # Stated, since MLflow would load the model in a process of its own to find them out.
                pip_requirements=[f"{name}=={version(name)}" for name in _SERVED_WITH],
                signature=_signature(),
            )


def _signature() -> ModelSignature:
    """The columns of the output."""
    # No types for the input: MLflow would refuse whole numbers where it expects floats, and every CSV body.
    outputs = [("probability", "double"), ("prediction", "long"), ("decision", "string"), ("risk_level", "string")]
    return ModelSignature(outputs=Schema([ColSpec(t, n) for n, t in [*outputs, ("score", "long")]]))
