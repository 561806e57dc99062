"""The whole of `python -m training run`: from files to an imported model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scoring import Progress

from .dataset import Dataset, load_dataset
from .errors import GateError
from .gates import Gate, judge
from .registry import Registered, promote, register
from .settings import SyntheticSettings, TrainingSettings
from .store import import_model
from .synthesis import APPLICATIONS, synthesize, total_clients
from .tracking import commit, record, tracked_run
from .trainer import TrainedModel, lineage, train
from .validation import refuse_too_few


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """A model that passed its gates, was promoted and imported."""

    trained: TrainedModel
    gates: tuple[Gate, ...]
    registered: Registered
    tag: str


def deliver(data: Path | None, settings: TrainingSettings, progress: Progress) -> Delivered:
    """Train on the files in `data`, or on generated ones, then track, register, import and promote the model.

    GateError, with the figures, if the model misses a gate: it stays registered but is neither promoted nor imported.
    """
    dataset = _dataset(data, settings.synthetic, progress)
    refuse_too_few(dataset.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
    with tracked_run(settings.tracking, name=dataset.source) as run_id:
        trained = train(dataset, settings, progress)
        artefact = trained.artefact(lineage(dataset, settings, run_id=run_id, commit=commit()))
        with progress.step("MLflow"):
            model_uri = record(dataset, trained, artefact, settings)
            registered = register(settings.tracking.model, model_uri, digest=artefact.digest, run_id=run_id)
    gates = judge(trained.evaluation, settings.gates)
    if not all(gate.passed for gate in gates):
        raise GateError(f"{registered.uri} is not promoted: {'; '.join(map(str, gates))}")
    with progress.step("import into the BentoML model store"):
        tag = import_model(registered)
    promote(registered)
    return Delivered(trained, gates, registered, str(tag))


def _dataset(data: Path | None, synthetic: SyntheticSettings, progress: Progress) -> Dataset:
    with _files(data, synthetic, progress) as directory, progress.step("load and validate"):
        dataset = load_dataset(directory)
    if data is None:
        dataset = replace(dataset, source=f"generated: {synthetic.clients} clients, seed {synthetic.seed}")
    for warning in dataset.warnings:
        progress.line(f"{dataset.source}: {warning}")
    return dataset


@contextmanager
def _files(data: Path | None, synthetic: SyntheticSettings, progress: Progress) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "generated"
        with progress.step("generate applications", total_clients(synthetic.clients)) as advance:
            synthesize(directory, clients=synthetic.clients, seed=synthetic.seed, tables=APPLICATIONS, progress=advance)
        yield directory
