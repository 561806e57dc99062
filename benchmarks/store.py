"""The model of a comparison, trained once by the project's own pipeline, and where it is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks.errors import BenchmarkError
from benchmarks.results import ServedModel
from benchmarks.settings import BenchmarkSettings
from features.portfolio import Portfolio
from scoring.artefact import Artefact
from scoring.scorer import Scorer

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Store:
    """A folder with data, an MLflow store, a BentoML store and environments."""

    folder: Path

    @property
    def data(self) -> Path:
        """The generated applications."""
        return self.folder / "data"

    @property
    def environments(self) -> Path:
        """Virtual environments."""
        return self.folder / "environments"

    @property
    def logs(self) -> Path:
        """What the servers wrote."""
        return self.folder / "logs"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that point BentoML and MLflow here, and keep them quiet."""
        return {
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "GIT_PYTHON_REFRESH": "quiet",
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """The trained model: its artefact, its name in the registry and its version there."""

    artefact: Path
    name: str
    version: str

    @classmethod
    def of(cls, record: str) -> Self:
        """From the JSON it was recorded as."""
        values = json.loads(record)
        return cls(Path(values["artefact"]), values["name"], values["version"])

    @property
    def scorer(self) -> Scorer:
        """The scorer that every peer's answers are compared with."""
        return Scorer(Artefact.read(self.artefact))

    @property
    def uri(self) -> str:
        """The registered version's address for MLflow."""
        return f"models:/{self.name}/{self.version}"


def trained(store: Store, settings: BenchmarkSettings) -> Trained:
    """The model of these settings and this feature definition; it is trained unless the store has it."""
    wanted = json.dumps([settings.seed, settings.clients, Portfolio.named_in(ROOT / "configs/training.yaml").digest])
    record = store.folder / "model.json"
    if record.exists() and json.loads(record.read_text())["of"] == wanted:
        return Trained.of(record.read_text())
    model = _train(store, settings)
    record.write_text(json.dumps({**asdict(model), "artefact": str(model.artefact), "of": wanted}))
    return model


def served_model(model: Trained, bodies: Sequence[bytes], fields: int) -> ServedModel:
    """What is said in the results about the model and the bodies of single requests."""
    scorer = model.scorer
    text = scorer.artefact.model_text
    leaves = [int(line.partition("=")[2]) for line in text.splitlines() if line.startswith("num_leaves=")]
    return ServedModel(
        digest=scorer.artefact.digest,
        trees=len(leaves),
        leaves=max(leaves),
        features=len(scorer.features),
        application_bytes=round(sum(map(len, bodies)) / len(bodies)),
        application_fields=fields,
        applications=len(bodies),
    )


def _train(store: Store, settings: BenchmarkSettings) -> Trained:
    """Train the first champion of an empty registry: no older one stands in its way."""
    store.folder.mkdir(parents=True, exist_ok=True)
    for name in ("mlruns", "bentoml", "prepared"):
        shutil.rmtree(store.folder / name, ignore_errors=True)
    if not store.data.exists():
        generate = ["--clients", str(settings.clients), "--seed", str(settings.seed), "--format", "parquet"]
        _training(store, "synthesize", *generate, "--applications-only", "--output", str(store.data))
    _training(store, "run", "--data", str(store.data))
    return _latest(store)


def _training(store: Store, *arguments: str) -> None:
    command = [sys.executable, "-m", "training", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **store.variables}, capture_output=True, text=True)  # noqa: PLW1510
    if done.returncode:
        raise BenchmarkError(f"python -m training {arguments[0]} failed: {' '.join(done.stderr.split())[-400:]}")


def _latest(store: Store) -> Trained:
    """The model that the pipeline imported last, as the BentoML store has it: it alone has a manifest."""
    labels = (store.folder / "bentoml" / "models").glob("*/latest")
    (artefact,) = (
        folder
        for folder in (label.parent / label.read_text().strip() for label in labels)
        if (folder / "manifest.json").exists()
    )
    return Trained(artefact, artefact.parent.name, artefact.name.partition("-")[0])
