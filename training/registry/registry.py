"""MLflow's registry keeps versions of the model, an alias for the champion, and the history of champions."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from pyarrow import parquet

from jobs.output import write_bytes
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.store import REPORT, Statement, sign
from training.blocks import StoredDataset
from training.dataset import Dataset
from training.errors import RegistryError
from training.registry.packaging import check_flavour, model_digest, sha256
from training.registry.tracking import actor

CHAMPION = "champion"
"""The alias of the version that decides."""
CHALLENGER = "challenger"
"""The alias of the version that was trained last and is not champion."""
OUT_OF_FOLD = "evaluation/out_of_fold.parquet"
"""The file of a run that holds its out-of-fold PDs."""
REVISES = "revises"
"""The tag of a version whose policy revises that of another: the other's digest."""
DATA = "data.sha256"
"""The tag of a run and a version with the fingerprint of the training data."""
GATES = "gates"
"""The tag of a version with the gates that judged it; a version without it was never judged."""
POLICY = "policy"
"""The tag of a version with the version of its decision policy."""
_DIGEST, _SOURCE, _REPORT, _MODEL = "digest", "data.source", "report.sha256", "model.sha256"
_SIGNATURE = "signature"
_ARTEFACT = Path("artifacts") / "artefact"


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a registered model.

    `source` names its training data. `report` is the SHA-256 of its report, None for a version without one. `model` is
    the digest of all logged files, the code that MLflow would run included; None for a version of an older release,
    whose files are never read.
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
        """Version and digest in one word, unique over registries and legal as a BentoML version."""
        return self.statement.label

    @property
    def statement(self) -> Statement:
        """The statement that a signature of the version confirms."""
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


def register(
    name: str, model_uri: str, *, digest: str, run_id: str, source: str, report: str, tags: Mapping[str, str]
) -> Registered:
    """Register the logged model, with further `tags`, as the next version of `name`; make it the challenger."""
    # MLflow adds files of its own when it logs a model, so the digest is taken of what it gives back.
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=scratch))
        logged, policy = model_digest(model), Artefact.read(model / _ARTEFACT, digest=digest).policy_version
    own = {_DIGEST: digest, _SOURCE: source, _REPORT: report, _MODEL: logged, POLICY: policy}
    version = str(mlflow.register_model(model_uri, name, tags={**tags, **own}).version)
    registered = Registered(name, version, digest, run_id, source, report, logged)
    make_challenger(registered)
    return registered


def make_challenger(registered: Registered) -> None:
    """Give the alias `challenger` to this version."""
    MlflowClient().set_registered_model_alias(registered.name, CHALLENGER, registered.version)


def find(name: str, version: str) -> Registered:
    """Find a version by its number or, written `@alias`, by its alias; RegistryError if there is none."""
    try:
        found = _model_version(name, version)
    except MlflowException as error:
        raise RegistryError(f"{name} {version}: not in the registry ({error.error_code})") from None
    return _registered(found)


def champion(name: str) -> Registered | None:
    """Find the version with the alias `champion`; None if no version has it."""
    version = aliases(name).get(CHAMPION)
    return None if version is None else find(name, version)


def aliases(name: str) -> dict[str, str]:
    """Map each alias to its version; empty if nothing is registered yet."""
    model = registered_model(name)
    return {alias: str(version) for alias, version in model.aliases.items()} if model else {}


def registered_model(name: str) -> RegisteredModel | None:
    """Find the model of this name in MLflow; None if nothing is registered under it yet."""
    # MLflow's `get` raises one error for an unknown name and for a server that fails; a search tells them apart.
    found = MlflowClient().search_registered_models(f"name = '{name}'")
    return found[0] if found else None


def versions(name: str) -> list[ModelVersion]:
    """List every version in MLflow, the oldest first."""
    return sorted(MlflowClient().search_model_versions(f"name = '{name}'"), key=lambda found: int(found.version))


def data_of(version: ModelVersion) -> str | None:
    """Return the fingerprint of the data that a version was trained on; None if neither it nor its run tells."""
    if DATA in version.tags or not version.run_id:
        return version.tags.get(DATA)
    try:
        return MlflowClient().get_run(version.run_id).data.tags.get(DATA)
    except MlflowException:
        return None


def put_in_charge(registered: Registered) -> None:
    """Give the alias `champion` to this version and take the alias `challenger` from it."""
    # MLflow cannot change two aliases at once. In this order there is a champion at every moment.
    client = MlflowClient()
    client.set_registered_model_alias(registered.name, CHAMPION, registered.version)
    if aliases(registered.name).get(CHALLENGER) == registered.version:
        client.delete_registered_model_alias(registered.name, CHALLENGER)


def download(registered: Registered, folder: Path) -> Path:
    """Download the registered model into `folder` and return its path; its artefact is in `artifacts/artefact`.

    RegistryError unless every file is as it was registered. None of it is run or unpickled.
    """
    if registered.model is None:
        raise RegistryError(f"{registered}: registered by an older release, without a digest of its files: train anew")
    target = folder / "model"  # a folder of its own, since the digest covers every file in it
    model = Path(mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(target)))
    try:
        check_flavour(model)
    except RegistryError as error:
        raise RegistryError(f"{registered}: {error}") from None
    if model_digest(model) != registered.model:
        raise RegistryError(f"{registered}: its files in the artefact store are not those that were registered")
    return model


def artefact_folder(model: Path, registered: Registered) -> Path:
    """Return the artefact's path in a downloaded model, verified against the digest; ArtefactError otherwise."""
    folder = model / _ARTEFACT
    try:
        Artefact.read(folder, digest=registered.digest)
    except ArtefactError as error:
        raise ArtefactError(f"{registered}: {str(error).removeprefix(f'{folder}: ')}") from None
    return folder


def report_file(folder: Path, registered: Registered) -> Path | None:
    """Return the path of the report in `folder`; None if the version was registered without one.

    RegistryError if the report is absent or is not the registered one.
    """
    if registered.report is None:
        return None
    file = folder / REPORT
    if not file.is_file() or sha256(file) != registered.report:
        raise RegistryError(f"{registered}: its report is missing or was altered since it was registered")
    return file


def recorded_predictions(registered: Registered, folder: Path) -> OutOfFold:
    """Download the version's out-of-fold PDs into `folder` and read them; RegistryError if its run kept none."""
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
    """Return the signature of a version; None if it was never signed."""
    return _model_version(registered.name, registered.version).tags.get(_SIGNATURE)


def copy_report(registered: Registered, output: Path) -> None:
    """Copy the report to the file `output`, whole or not at all.

    RegistryError if the version has no report or an altered one; OutputError if the file cannot be written.
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


# MLflow keeps no history of an alias, so tags of the registered model hold it. Their names sort by time.
_KEY = "champion."
_DETAILS = "change."
"""Before the time of a change: tags with its actor, and with digest and policy, which outlive the version."""
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_TICK = timedelta(microseconds=1)


class Action(StrEnum):
    """How a version became champion."""

    PROMOTED = "promoted"
    RESTORED = "restored"
    """A rollback made it champion again."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A change of champion at the time `at`, ISO 8601 in UTC.

    `actor`, `digest` and `policy` are empty for a change that an older release made.
    """

    at: str
    action: Action
    version: str
    actor: str = ""
    digest: str = ""
    policy: str = ""

    def __str__(self) -> str:
        by = f" by {self.actor}" if self.actor else ""
        return f"{self.at[:19]}Z  version {self.version} {self.action}{by}"


def record_change(registered: Registered, action: Action, now: datetime) -> None:
    """Add a change to the history, as its last one; `now` is in UTC."""
    # A command that waited for another one has an older `now`, and the clocks of two machines differ.
    before = changes(registered.name)[-1:]
    at = max([now, *(_moment(change.at) + _TICK for change in before)])
    client, time = MlflowClient(), at.strftime(_TIME)
    policy = client.get_model_version(registered.name, registered.version).tags.get(POLICY, "")
    details = {"actor": actor(os.environ), "digest": registered.digest, "policy": policy}
    # The change comes last: without it the details stand for nothing.
    client.set_registered_model_tag(registered.name, f"{_DETAILS}{time}", json.dumps(details))
    client.set_registered_model_tag(registered.name, f"{_KEY}{time}", f"{action} {registered.version}")


def changes(name: str) -> list[Change]:
    """List every change of champion, the oldest first."""
    model = registered_model(name)
    tags = model.tags if model else {}
    times = [key.removeprefix(_KEY) for key in tags if key.startswith(_KEY)]
    return sorted(_change(at, tags[f"{_KEY}{at}"], tags.get(f"{_DETAILS}{at}", "{}")) for at in times)


@dataclass(frozen=True, slots=True)
class GateJudgement:
    """A version held against the gates at the time `at`; `champion` is the version that it was compared with, if any.

    The time is empty for the last judgement of an older release, which kept none.
    """

    at: str
    version: str
    actor: str
    champion: str | None
    gates: tuple[Mapping[str, Any], ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """The gates that were not passed."""
        return tuple(gate["name"] for gate in self.gates if not gate["passed"])


_JUDGED = "judged."


def record_judgement(
    registered: Registered, gates: Sequence[Mapping[str, Any]], incumbent: str | None, now: datetime
) -> None:
    """Add a judgement to the history of a version; `now` is in UTC."""
    said = json.dumps({"actor": actor(os.environ), "champion": incumbent, "gates": gates})
    MlflowClient().set_model_version_tag(registered.name, registered.version, f"{_JUDGED}{now.strftime(_TIME)}", said)


def judgements(version: ModelVersion) -> list[GateJudgement]:
    """List every judgement of a version, the oldest first; RegistryError for a tag that this project did not write."""
    times = sorted(key.removeprefix(_JUDGED) for key in version.tags if key.startswith(_JUDGED))
    said = [(at, version.tags[f"{_JUDGED}{at}"]) for at in times]
    if not said and GATES in version.tags:
        said = [("", f'{{"actor": "", "champion": null, "gates": {version.tags[GATES]}}}')]
    try:
        return [_judgement(at, str(version.version), **json.loads(text)) for at, text in said]
    except (KeyError, TypeError, ValueError):
        raise RegistryError(f"{version.name} {version.version}: its gates are not as a judgement wrote them") from None


def _judgement(
    at: str, version: str, *, actor: str, champion: str | None, gates: list[Mapping[str, Any]]
) -> GateJudgement:
    return GateJudgement(at, version, actor, champion, tuple(gates))


def succession(history: Iterable[Change]) -> tuple[str, ...]:
    """List the champions that a rollback can restore, followed by the present one.

    A promotion adds a version at the end; a rollback removes all versions after the one that it restores.

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
    """Find the champion by the history, or by the alias if there is no history; None if there is no champion."""
    # A promotion sets the alias first, so after an interruption the alias names a version that is not served yet.
    line = succession(changes(name))
    return find(name, line[-1]) if line else champion(name)


def _change(at: str, value: str, details: str) -> Change:
    action, _, version = value.partition(" ")
    try:
        _moment(at)
        return Change(at, Action(action), version, **json.loads(details))
    except (TypeError, ValueError):
        raise RegistryError(f"the tag {_KEY}{at} is not one that a promotion or a rollback wrote") from None


def _moment(at: str) -> datetime:
    return datetime.strptime(at, _TIME).replace(tzinfo=UTC)


# 64 bits: among 300,000 applications any two meet with a chance of about two in a billion.
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """The record holds the out-of-fold PD of every row of the training data.

    Attributes
    ----------
    applications : uint64, shape (n,); see `fingerprints`
    probability : float64, shape (n,)
    """

    applications: NDArray[np.uint64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, dataset: Dataset | StoredDataset, probability: NDArray[np.float64]) -> Self:
        """Make the record of a training on `dataset`."""
        blocks = [dataset] if isinstance(dataset, Dataset) else dataset.blocks()
        return cls(np.concatenate([fingerprints(block) for block in blocks]), probability)

    def write(self, path: Path) -> None:
        """Write a Parquet file of two columns."""
        parquet.write_table(pa.table({"application": self.applications, "probability": self.probability}), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record that `write` wrote."""
        table = parquet.read_table(path)
        return cls(table["application"].to_numpy(), table["probability"].to_numpy())

    def of_rows(self, dataset: Dataset) -> NDArray[np.float64]:
        """Look up the PD of each row, shape (len(dataset),); NaN for a row that was not in the training data."""
        known = dict(zip(self.applications.tolist(), self.probability.tolist(), strict=True))
        return np.array([known.get(row, np.nan) for row in fingerprints(dataset).tolist()])


def fingerprints(dataset: Dataset) -> NDArray[np.uint64]:
    """Digest the identifier and the required columns of each application, uint64 of shape (len(dataset),).

    Two people with one identifier, as in data generated from two seeds, differ. A further optional column changes
    nothing. Applications without an identifier are digested by all of their columns.
    """
    schema = dataset.columns.schema
    required = [column for column in schema if column.required or schema.id_column is None]
    position = schema.position
    numbers = dataset.columns.numbers[:, [position[column.name] for column in required if column.numeric]]
    levels = dataset.columns.levels[:, [position[column.name] for column in required if not column.numeric]]
    names = dataset.ids.tolist() if schema.id_column is not None else [None] * len(dataset)
    rows = zip(names, numbers.tolist(), levels.tolist(), strict=True)
    # Python writes a float with all the digits that it needs, so equal rows give equal text on every machine.
    return np.array([_digest(repr(row)) for row in rows], dtype=np.uint64)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_FINGERPRINT_BYTES).digest())
