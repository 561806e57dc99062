"""The tables of where a model comes from."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from scoring import Artefact
from training.data import Dataset
from training.fitting import TrainedModel
from training.settings import TrainingSettings

from .cells import count, percent
from .table import Row, Table

_DECIDING = (
    "seed", "features", "leakage", "out_of_time", "model", "policy", "evaluation", "interpretation", "drift_reference",
    "gates",
)  # fmt: skip


def identity_table(artefact: Artefact) -> Table:
    """What names this model and its code."""
    return Table.of("ll", ("what", "value"), _identity(artefact))


def _identity(artefact: Artefact) -> Iterator[Row]:
    lineage = artefact.lineage
    yield "digest of the artefact, SHA-256", artefact.digest
    yield "digest of the feature definition, SHA-256", artefact.features.definition
    yield "MLflow run", str(lineage["run_id"])
    yield "commit of the code", str(lineage["commit"] or "not in a repository")
    yield "digest of the computing code, SHA-256", str(lineage["code"])
    for name, version in lineage["versions"].items():
        yield name, str(version)


def data_table(dataset: Dataset, trained: TrainedModel) -> Table:
    """What the model was fitted on."""
    return Table.of("ll", ("what", "value"), _data(dataset, trained))


def _data(dataset: Dataset, trained: TrainedModel) -> Iterator[Row]:
    defaults = int(dataset.target.sum())
    yield "source", dataset.source
    yield "SHA-256 of the file", dataset.fingerprint
    yield "applications fitted on", count(len(dataset))
    yield "defaults among them", f"{count(defaults)} ({percent(defaults / len(dataset))})"
    if trained.later is not None:
        later = trained.later
        yield "later applications, for judging only", f"{count(later.rows)}, of which {count(later.defaults)} defaults"
    if dataset.dates is not None:
        yield "days of the applications fitted on", f"{dataset.dates.min()} to {dataset.dates.max()}"


def deciding_settings(settings: TrainingSettings) -> str:
    """The settings that decide what a model is and how it is judged, as YAML: no address, no path."""
    values = settings.model_dump(mode="json", include=set(_DECIDING))
    return yaml.safe_dump(
        {name: values[name] for name in _DECIDING}, sort_keys=False, default_flow_style=None, width=100
    )
