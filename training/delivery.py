"""The whole of `python -m training run`: from files to a challenger, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoring import Progress

from .data import Dataset, load, split_by_time
from .fitting import TrainedModel, lineage, train
from .promotion import Verdict, judge
from .registry import (
    FILES,
    Registered,
    code_digest,
    commit,
    place_of_fitted,
    register_fitted,
    tracked_run,
    write_fitted,
)
from .report import write_report
from .settings import TrainingSettings


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
