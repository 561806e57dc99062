"""Where a command takes its data from: a folder, or the generator where none is given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from features import open_file
from scoring import Progress
from training.settings import SyntheticSettings, TrainingSettings
from training.synthesis import APPLICATIONS, TRUE_PD, synthesize, total_clients

from .dataset import Dataset, find_table, load_dataset
from .leakage import outside_leaks, refuse_leaks
from .validation import refuse_too_few

_GENERATED = "generated: "


def load(data: Path | None, settings: TrainingSettings, progress: Progress, *, to_fit: bool = True) -> Dataset:
    """The validated data in the folder `data`, or generated data; its warnings become lines of the progress.

    DataError if it breaks a rule, or if it is meant to fit a model and is too small for the folds of the settings or
    leaks the outcome. The source of generated data says so, also where it comes from a folder: only there true PDs are
    known.
    """
    synthetic = settings.synthetic
    with _files(data, synthetic, progress) as directory, progress.step("load and validate"):
        dataset = _fit_for_training(directory, settings) if to_fit else load_dataset(directory)
    if data is None:
        dataset = replace(dataset, source=f"{_GENERATED}{synthetic.clients} clients, seed {synthetic.seed}")
    elif any(data.glob(f"{TRUE_PD.name}.*")):
        dataset = replace(dataset, source=f"{_GENERATED}{dataset.source}")
    for warning in dataset.warnings:
        progress.line(f"{dataset.source}: {warning}")
    return dataset


def _fit_for_training(directory: Path, settings: TrainingSettings) -> Dataset:
    dates = None if settings.out_of_time is None else settings.out_of_time.column
    dataset = load_dataset(directory, dates=dates)
    refuse_too_few(dataset.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
    refuse_leaks(dataset, settings.leakage)
    file = open_file(find_table(directory, "application_train"))
    return replace(dataset, warnings=(*dataset.warnings, *outside_leaks(dataset, file, settings.leakage)))


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
