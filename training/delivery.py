"""The whole of `python -m training run`: from files to an imported model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoring import Progress

from .errors import GateError
from .gates import Gate, judge
from .outoftime import split_by_time
from .registry import Registered, promote, register
from .report import measured
from .settings import TrainingSettings
from .source import load
from .store import import_model
from .tracking import commit, record, tracked_run
from .trainer import TrainedModel, lineage, train


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
    dataset, later = split_by_time(load(data, settings, progress), settings.out_of_time)
    with tracked_run(settings.tracking, name=dataset.source) as run_id:
        trained = train(dataset, settings, progress, later=later)
        artefact = trained.artefact(lineage(dataset, settings, run_id=run_id, commit=commit()))
        with progress.step("MLflow"):
            model_uri = record(dataset, trained, artefact, settings)
            registered = register(settings.tracking.model, model_uri, digest=artefact.digest, run_id=run_id)
    gates = judge(trained.evaluation, settings.gates)
    if not all(gate.passed for gate in gates):
        for line in measured(trained, gates):
            progress.line(line)
        raise GateError(f"{registered.uri} is not promoted: {'; '.join(map(str, gates))}")
    with progress.step("import into the BentoML model store"):
        tag = import_model(registered)
    promote(registered)
    return Delivered(trained, gates, registered, str(tag))
