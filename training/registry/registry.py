"""The MLflow model registry: versions, the aliases that say what each is for, and who was champion when."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Self

import mlflow
import numpy as np
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from pyarrow import parquet

from features.application import APPLICATION
from jobs.output import write_bytes
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.store import REPORT, Statement, sign
from training.dataset import Dataset
from training.errors import RegistryError
from training.registry.packaging import check_flavour, model_digest, sha256

CHAMPION = "champion"
"""The version in charge."""
CHALLENGER = "challenger"
"""The version that was trained last and is not in charge."""
OUT_OF_FOLD = "evaluation/out_of_fold.parquet"
"""Where a run keeps its out-of-fold PDs."""
_DIGEST, _SOURCE, _REPORT, _MODEL = "digest", "data.source", "report.sha256", "model.sha256"
_SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a registered model.

    `source` names the data that it was trained on. `report` is the SHA-256 of its report, None for a version that was
    registered without one. `model` is the digest of all that was logged, the code that MLflow would run included; None
    for a version of an older release, whose files are never read.
    """

    name: str
    version: str
    digest: str
    run_id: str
    source: str
    report: str | None
    model: str | None

    @property
    def label(self) -> str:
        """Version and digest in one word: unique over registries, and legal as a BentoML version."""
        return self.statement.label

    @property
    def statement(self) -> Statement:
        """What a signature of the version vouches for."""
        return Statement(self.name.lower(), self.version, self.digest, self.report)

    @property
    def tag(self) -> str:
        """The version's name in the BentoML model store."""
        return f"{self.name}:{self.label}"

    @property
    def uri(self) -> str:
        """The version's address for MLflow."""
        return f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def register(name: str, model_uri: str, *, digest: str, run_id: str, source: str, report: str) -> Registered:
    """Register the logged model as the next version of `name` and make it the challenger."""
    with tempfile.TemporaryDirectory() as scratch:
        logged = model_digest(Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=scratch)))
    tags = {_DIGEST: digest, _SOURCE: source, _REPORT: report, _MODEL: logged}
    version = str(mlflow.register_model(model_uri, name, tags=tags).version)
    MlflowClient().set_registered_model_alias(name, CHALLENGER, version)
    return Registered(name, version, digest, run_id, source, report, logged)


def find(name: str, version: str) -> Registered:
    """A version by its number or, written `@alias`, by its alias; RegistryError if there is none."""
    try:
        found = _model_version(name, version)
    except MlflowException as error:
        raise RegistryError(f"{name} {version}: not in the registry ({error.error_code})") from None
    return _registered(found)


def champion(name: str) -> Registered | None:
    """The version in charge, if one is."""
    version = aliases(name).get(CHAMPION)
    return None if version is None else find(name, version)


def aliases(name: str) -> dict[str, str]:
    """The version that each alias names; none where nothing is registered yet."""
    model = registered_model(name)
    return {alias: str(version) for alias, version in model.aliases.items()} if model else {}


def registered_model(name: str) -> RegisteredModel | None:
    """The model as MLflow knows it, None where nothing is registered under this name yet."""
    found = MlflowClient().search_registered_models(f"name = '{name}'")
    return found[0] if found else None


def versions(name: str) -> list[ModelVersion]:
    """Every version as MLflow knows it, the oldest first."""
    return sorted(MlflowClient().search_model_versions(f"name = '{name}'"), key=lambda found: int(found.version))


def put_in_charge(registered: Registered) -> None:
    """Give the alias `champion` to this version, which then challenges no longer."""
    client = MlflowClient()
    client.set_registered_model_alias(registered.name, CHAMPION, registered.version)
    if aliases(registered.name).get(CHALLENGER) == registered.version:
        client.delete_registered_model_alias(registered.name, CHALLENGER)


def download(registered: Registered, folder: Path) -> Path:
    """Copy the registered model into `folder` and return where it is; its artefact is in `artifacts/artefact`.

    RegistryError unless it is, file for file, what was registered. Nothing of it is run or unpickled.
    """
    if registered.model is None:
        raise RegistryError(f"{registered}: registered by an older release, without a digest of its files: train anew")
    target = folder / "model"  # of its own: what else is in the folder is not the model's
    model = Path(mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(target)))
    try:
        check_flavour(model)
    except RegistryError as error:
        raise RegistryError(f"{registered}: {error}") from None
    if model_digest(model) != registered.model:
        raise RegistryError(f"{registered}: its files in the artefact store are not those that were registered")
    return model


def artefact_folder(model: Path, registered: Registered) -> Path:
    """Where the artefact of a downloaded model is, verified against the digest."""
    folder = model / "artifacts" / "artefact"
    try:
        Artefact.read(folder, digest=registered.digest)
    except ArtefactError as error:
        raise ArtefactError(f"{registered}: {str(error).removeprefix(f'{folder}: ')}") from None
    return folder


def report_file(folder: Path, registered: Registered) -> Path | None:
    """The report in a folder that should hold it, None if the version was registered without one.

    RegistryError unless it is there and is the one that was registered.
    """
    if registered.report is None:
        return None
    file = folder / REPORT
    if not file.is_file() or sha256(file) != registered.report:
        raise RegistryError(f"{registered}: its report is missing or was altered since it was registered")
    return file


def recorded_predictions(registered: Registered, folder: Path) -> OutOfFold:
    """The out-of-fold PDs of the version's training, copied into `folder`; RegistryError if its run kept none."""
    client = MlflowClient()
    listed = client.list_artifacts(registered.run_id, Path(OUT_OF_FOLD).parent.as_posix())
    if OUT_OF_FOLD not in [file.path for file in listed]:
        raise RegistryError(f"{registered}: its run kept no out-of-fold probabilities to compare with")
    return OutOfFold.read(Path(client.download_artifacts(registered.run_id, OUT_OF_FOLD, str(folder))))


def sign_version(registered: Registered, key: Path) -> None:
    """Sign a version with the private key in a PEM file, and keep the signature with it; SignatureError for no key."""
    signature = sign(registered.statement, key)
    MlflowClient().set_model_version_tag(registered.name, registered.version, _SIGNATURE, signature)


def signature_of(registered: Registered) -> str | None:
    """The signature that is kept with a version, None if it was never signed."""
    return _model_version(registered.name, registered.version).tags.get(_SIGNATURE)


def copy_report(registered: Registered, output: Path) -> None:
    """Copy the report to the file `output`, whole or not at all.

    RegistryError if the version has none or another than was registered, OutputError if the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = report_file(artefact_folder(download(registered, Path(scratch)), registered).parent, registered)
        if report is None:
            raise RegistryError(f"{registered}: registered without a report")
        write_bytes(output, report.read_bytes())


def _registered(found: ModelVersion) -> Registered:
    digest = found.tags.get(_DIGEST)
    if digest is None:
        raise RegistryError(f"{found.name} {found.version}: was not registered by `python -m training run`")
    return Registered(
        name=found.name,
        version=str(found.version),
        digest=digest,
        run_id=found.run_id or "",
        source=found.tags.get(_SOURCE, ""),
        report=found.tags.get(_REPORT),
        model=found.tags.get(_MODEL),
    )


def _model_version(name: str, version: str) -> ModelVersion:
    if version.startswith("@"):
        return MlflowClient().get_model_version_by_alias(name, version.removeprefix("@"))
    return MlflowClient().get_model_version(name, version)


_KEY = "champion."
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_TICK = timedelta(microseconds=1)


class Action(StrEnum):
    """How a version came to be in charge."""

    PROMOTED = "promoted"
    RESTORED = "restored"
    """By a rollback."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change of champion; `at` is when, ISO 8601 in UTC."""

    at: str
    action: Action
    version: str

    def __str__(self) -> str:
        return f"{self.at[:19]}Z  version {self.version} {self.action}"


def remember(registered: Registered, action: Action, now: datetime) -> None:
    """Add a change to the history, as its last. `now` is in UTC.

    It is later than the change before in any case: a command that waited for another has an older `now`, and clocks of
    two machines differ.
    """
    before = changes(registered.name)[-1:]
    at = max([now, *(_moment(change.at) + _TICK for change in before)])
    key = f"{_KEY}{at.strftime(_TIME)}"
    MlflowClient().set_registered_model_tag(registered.name, key, f"{action} {registered.version}")


def changes(name: str) -> list[Change]:
    """Every change of champion, the oldest first."""
    model = registered_model(name)
    tags = model.tags if model else {}
    return sorted(_change(key.removeprefix(_KEY), tags[key]) for key in tags if key.startswith(_KEY))


def succession(history: Iterable[Change]) -> tuple[str, ...]:
    """The champions that a rollback can go back through, the one in charge last.

    A promotion puts a version on top, a rollback takes away what is above the version that it restores.

    >>> promoted = [Change(f"2026-01-0{day}", Action.PROMOTED, str(day)) for day in (1, 2, 3)]
    >>> succession([*promoted, Change("2026-01-04", Action.RESTORED, "2")])
    ('1', '2')
    """
    line: list[str] = []
    for change in history:
        if change.action is Action.PROMOTED:
            line.append(change.version)
        else:
            del line[-1:]
            while change.version in line and line[-1] != change.version:  # deleted in the registry meanwhile
                del line[-1]
    return tuple(line)


def current_champion(name: str) -> Registered | None:
    """The version in charge as the history has it, which the alias may be ahead of; by the alias where it has none."""
    line = succession(changes(name))
    return find(name, line[-1]) if line else champion(name)


def _change(at: str, value: str) -> Change:
    action, _, version = value.partition(" ")
    try:
        _moment(at)
        return Change(at, Action(action), version)
    except ValueError:
        raise RegistryError(f"the tag {_KEY}{at} is not one that a promotion or a rollback wrote") from None


def _moment(at: str) -> datetime:
    return datetime.strptime(at, _TIME).replace(tzinfo=UTC)


_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """For every row of the training data, the PD from the fold model that was not fitted on it.

    Attributes
    ----------
    applications : uint64, shape (n,); see `fingerprints`
    probability : float64, shape (n,)
    """

    applications: NDArray[np.uint64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, dataset: Dataset, probability: NDArray[np.float64]) -> Self:
        """The record of a training on `dataset`."""
        return cls(fingerprints(dataset), probability)

    def write(self, path: Path) -> None:
        """Write a Parquet file of two columns."""
        parquet.write_table(pa.table({"application": self.applications, "probability": self.probability}), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record that `write` wrote."""
        table = parquet.read_table(path)
        return cls(table["application"].to_numpy(), table["probability"].to_numpy())

    def of_rows(self, dataset: Dataset) -> NDArray[np.float64]:
        """The recorded PD of each row, shape (len(dataset),); NaN where the model was not fitted on the row."""
        known = dict(zip(self.applications.tolist(), self.probability.tolist(), strict=True))
        return np.array([known.get(row, np.nan) for row in fingerprints(dataset).tolist()])


def fingerprints(dataset: Dataset) -> NDArray[np.uint64]:
    """What tells one application from another, uint64 of shape (len(dataset),).

    A digest of the identifier and the required columns: other people under the same identifiers, as in data generated
    from two seeds, differ, and declaring a further optional column changes nothing.
    """
    required = [column for column in APPLICATION if column.required]
    position = APPLICATION.position
    numbers = dataset.columns.numbers[:, [position[column.name] for column in required if column.numeric]]
    levels = dataset.columns.levels[:, [position[column.name] for column in required if not column.numeric]]
    rows = zip(dataset.ids.tolist(), numbers.tolist(), levels.tolist(), strict=True)
    return np.array([_digest(repr(row)) for row in rows], dtype=np.uint64)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_FINGERPRINT_BYTES).digest())
