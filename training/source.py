"""Where a command takes its data from: a folder, or the generator where none is given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from scoring import Progress

from .dataset import Dataset, load_dataset
from .settings import SyntheticSettings, TrainingSettings
from .synthesis import APPLICATIONS, TRUE_PD, synthesize, total_clients

_GENERATED = "generated: "


def load(data: Path | None, settings: TrainingSettings, progress: Progress) -> Dataset:
    """The validated data in the folder `data`, or generated data; its warnings become lines of the progress.

    The source of generated data says so, also where it comes from a folder: only there true PDs are known.
    """
    synthetic = settings.synthetic
    with _files(data, synthetic, progress) as directory, progress.step("load and validate"):
        dataset = load_dataset(directory)
    if data is None:
        dataset = replace(dataset, source=f"{_GENERATED}{synthetic.clients} clients, seed {synthetic.seed}")
    elif any(data.glob(f"{TRUE_PD.name}.*")):
        dataset = replace(dataset, source=f"{_GENERATED}{dataset.source}")
    for warning in dataset.warnings:
        progress.line(f"{dataset.source}: {warning}")
    return dataset


def is_generated(source: str) -> bool:
    """Whether the source of a data set is the generator."""
    return source.startswith(_GENERATED)


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
