"""Where a command takes its data from: a folder, or the generator where none is given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from features.files import open_file
from jobs.progress import Progress
from training.dataset import GENERATED, Dataset, find_table, load_dataset, refuse_too_few, split_by_time
from training.leakage import outside_leaks, refuse_leaks
from training.promotion import Verdict, judge
from training.registry.fitted import FILES, place_of_fitted, register_fitted, write_fitted
from training.registry.packaging import code_digest
from training.registry.registry import Registered
from training.registry.tracking import commit, tracked_run
from training.report.model_report import write_report
from training.settings import SyntheticSettings, TrainingSettings
from training.synthesis.dataset import APPLICATIONS, TRUE_PD, synthesize, total_clients
from training.trainer import TrainedModel, lineage, train


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
        dataset = replace(dataset, source=f"{GENERATED}{synthetic.clients} clients, seed {synthetic.seed}")
    elif any(data.glob(f"{TRUE_PD.name}.*")):
        dataset = replace(dataset, source=f"{GENERATED}{dataset.source}")
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


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """A trained and registered model, and how it did against the gates and the champion."""

    trained: TrainedModel
    registered: Registered
    verdict: Verdict

    @property
    def tag(self) -> str:
        """The model's name in the BentoML store, once it is promoted."""
        return self.registered.tag


def deliver(
    data: Path | None,
    settings: TrainingSettings,
    progress: Progress,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
) -> Delivered:
    """Train on the files in `data`, or on generated ones, track, register the model as challenger and judge it.

    It is judged on the later applications where the settings keep some apart, on those it was trained on otherwise.
    """
    dataset, later = split_by_time(load(data, settings, progress), settings.out_of_time)
    place_of_fitted()
    with tracked_run(settings.tracking, name=dataset.source) as run_id:
        trained = train(dataset, settings, progress, later=later)
        with progress.step("MLflow"):
            registered = track(dataset, trained, settings, run_id=run_id)
    with progress.step("gates"):
        verdict = judge(
            registered,
            dataset if later is None else later,
            settings,
            generated_allowed=generated_allowed,
            uncompared_allowed=uncompared_allowed,
        )
    return Delivered(trained, registered, verdict)


def track(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings, *, run_id: str) -> Registered:
    """Record a trained model with its figures and report in the active run and register it as challenger."""
    artefact = trained.artefact(lineage(dataset, settings, run_id=run_id, commit=commit(), code=code_digest()))
    folder = write_fitted(dataset, trained, artefact, settings, run_id=run_id)
    write_report(folder / FILES, dataset, trained, artefact, settings)
    return register_fitted(folder)
