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
from .synthesis import APPLICATIONS, synthesize, total_clients
from .validation import refuse_too_few


def load(data: Path | None, settings: TrainingSettings, progress: Progress) -> Dataset:
    """The validated data in the folder `data`, or generated data; its warnings become lines of the progress.

    DataError if it breaks a rule, or is too small for the folds of the settings.
    """
    synthetic = settings.synthetic
    with _files(data, synthetic, progress) as directory, progress.step("load and validate"):
        dataset = load_dataset(directory)
    if data is None:
        dataset = replace(dataset, source=f"generated: {synthetic.clients} clients, seed {synthetic.seed}")
    refuse_too_few(dataset.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
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
