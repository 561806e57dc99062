"""The MLflow model registry: versions, and the alias that says which one is in charge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from scoring import Artefact

from .errors import RegistryError

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: str
    digest: str
    run_id: str

    @property
    def label(self) -> str:
        """Version and digest in one word: unique over registries, and legal as a BentoML version."""
        return f"{self.version}-{self.digest[:12]}"

    @property
    def uri(self) -> str:
        """The version's address for MLflow."""
        return f"models:/{self.name}/{self.version}"


def register(name: str, model_uri: str, *, digest: str, run_id: str) -> Registered:
    """Register the logged model as the next version of `name`, tagged with its digest."""
    version = mlflow.register_model(model_uri, name, tags={"digest": digest})
    return Registered(name, str(version.version), digest, run_id)


def promote(registered: Registered) -> None:
    """Put this version in charge."""
    MlflowClient().set_registered_model_alias(registered.name, CHAMPION, registered.version)


def find(name: str, version: str) -> Registered:
    """A version by its number or, written `@alias`, by its alias; RegistryError if there is none."""
    try:
        found = _model_version(name, version)
    except MlflowException as error:
        raise RegistryError(f"{name} {version}: not in the registry ({error.error_code})") from None
    digest = found.tags.get("digest")
    if digest is None:
        raise RegistryError(f"{name} {version}: registered without a digest")
    return Registered(name, str(found.version), digest, found.run_id or "")


def download(registered: Registered, folder: Path) -> Path:
    """Copy the registered model into `folder` and return where its artefact is, verified against the digest."""
    root = Path(mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(folder)))
    artefact = root / "artifacts" / "artefact"
    Artefact.read(artefact, digest=registered.digest)
    return artefact


def _model_version(name: str, version: str) -> ModelVersion:
    if version.startswith("@"):
        return MlflowClient().get_model_version_by_alias(name, version.removeprefix("@"))
    return MlflowClient().get_model_version(name, version)
