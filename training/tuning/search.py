"""The whole of `python -m training tune`: from a data set to the winner and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.exceptions import OptunaError

from scoring import Progress
from training.data import Dataset
from training.errors import StudyError
from training.settings import DRAWING_ROWS, TrainingSettings

from .nested import NestedEstimate, nested_estimate
from .objective import tuning_folds
from .parameters import TunedParameters, Winner
from .recording import record_search, record_trials
from .study import FINISHED, open_study, run_trials, winner


@dataclass(frozen=True, slots=True)
class Tuned:
    """The winner, and what a nested repetition of the search says of it, if it was asked for."""

    parameters: TunedParameters
    nested: NestedEstimate | None


def tune(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> Tuned:
    """Run the study of the settings, or what is left of it, and record it in MLflow.

    StudyError if the study cannot be used, or its database fails on the way.
    """
    try:
        return _tuned(dataset, settings, progress)
    except OptunaError as error:
        raise StudyError(f"study {settings.tuning.study}: {error}") from None


def _tuned(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> Tuned:
    chosen = settings.tuning
    study = open_study(chosen.study, dataset, settings)
    folds = tuning_folds(dataset, chosen.folds, settings)
    done = len(study.get_trials(deepcopy=False, states=FINISHED))
    with progress.step(f"trials of {chosen.study}", max(0, chosen.trials - done)) as advance:
        run_trials(study, chosen.trials, folds, settings, progress=advance)
    best = winner(study)
    nested = _nested(dataset, settings, progress)
    with progress.step("MLflow"):
        record_trials(study, dataset, settings)
        record_search(study, nested, dataset, settings)
    origin = Winner(
        study=chosen.study,
        objective=chosen.objective.value,
        value=float(best.values[0]),
        trials=len(study.get_trials(deepcopy=False, states=FINISHED)),
        data_sha256=dataset.fingerprint,
    )
    return Tuned(TunedParameters(parameters=best.params | DRAWING_ROWS, winner=origin), nested)


def _nested(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> NestedEstimate | None:
    chosen = settings.tuning
    if chosen.nested is None:
        return None
    with progress.step("nested search", chosen.nested.folds * chosen.nested.trials) as advance:
        return nested_estimate(chosen.study, dataset, settings, chosen.nested, progress=advance)
