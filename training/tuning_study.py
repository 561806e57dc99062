"""A study keeps its trials in a database; one process or many run them.

The number of a trial and the finished trials before it decide its parameters. Another process takes over the trial of
a killed one where it stopped, so no trial is lost and none is repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from training.dataset import Dataset
from training.errors import StudyError
from training.search_settings import without_credentials
from training.settings import TrainingSettings
from training.tuning_objective import SEEN, TrialSeededSampler, TuningFold, value_of

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_SQLITE = "sqlite:///"
_IDENTITY = "identity"
_STARTED = time.time()
_OWNER = "owner"


def open_study(name: str, dataset: Dataset, settings: TrainingSettings) -> Study:
    """Open the study of that name, or make it.

    StudyError if its database cannot be used, or if it was begun on other data or with other settings: such trials do
    not compare.
    """
    chosen = settings.tuning
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if chosen.storage.startswith(_SQLITE):
            Path(chosen.storage.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            study_name=name,
            storage=RDBStorage(chosen.storage),
            direction=chosen.objective.direction,
            sampler=TrialSeededSampler(settings.seed, chosen.startup_trials),
            pruner=MedianPruner(chosen.pruning.startup_trials, chosen.pruning.warmup_folds),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise StudyError(f"{without_credentials(chosen.storage)}: cannot be used ({type(error).__name__})") from None
    _check_identity(study, _identity(dataset, settings))
    return study


def run_trials(
    study: Study,
    trials: int,
    folds: Sequence[TuningFold],
    settings: TrainingSettings,
    *,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Run trials until the study has `trials` of them; `progress` is called after each."""
    while (trial := _next_trial(study, trials, settings.tuning.abandoned_after_seconds)) is not None:
        for name, value in _claim().items():
            trial.set_user_attr(name, value)
        try:
            study.tell(trial, value_of(trial, folds, settings))
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        progress()


def winner(study: Study) -> FrozenTrial:
    """Return the best trial; StudyError if none is complete."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise StudyError(f"study {study.study_name}: no trial is complete")
    return study.best_trial


def _next_trial(study: Study, trials: int, abandoned_after: float) -> Trial | None:
    """A trial that a killed process left, else a new one, else None."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _orphaned(left, abandoned_after):
            return Trial(study, left._trial_id)  # noqa: SLF001 - Optuna has no public way to go on with a trial
    if _trials_begun(study) >= trials:
        return None
    if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial({}, user_attrs=_claim())  # a trial that is queued first has an owner from its first moment
    trial = study.ask()
    if _trials_begun(study, before=trial.number) < trials:
        return trial
    study.tell(trial, state=TrialState.FAIL)  # another process began the last trial at the same moment
    return None


def _trials_begun(study: Study, before: int | None = None) -> int:
    begun = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
    return sum(before is None or one.number < before for one in begun)


def _orphaned(trial: FrozenTrial, abandoned_after: float) -> bool:
    began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    host, _, process = trial.user_attrs.get(_OWNER, "").rpartition(":")
    if host == socket.gethostname():
        if int(process) == os.getpid():  # an earlier process had our number, or another one took what we queued
            return began < _STARTED
        return not _alive(int(process))
    return time.time() - float(trial.user_attrs.get(SEEN, began)) > abandoned_after


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, but alive
    return True


def _claim() -> dict[str, str | float]:
    """Attributes that say who runs a trial, and that it was alive now."""
    return {_OWNER: f"{socket.gethostname()}:{os.getpid()}", SEEN: time.time()}


def _identity(dataset: Dataset, settings: TrainingSettings) -> str:
    """Digest of the data and settings that trials must share to be comparable."""
    comparable = {"objective", "folds", "startup_trials", "pruning", "space"}
    chosen = settings.tuning.model_dump(mode="json", include=comparable)
    rest = settings.model_dump(mode="json", include={"seed", "features", "model", "policy", "evaluation"})
    # The number of threads changes no bit of a fit, so another machine may go on with the study.
    rest["model"].pop("threads")
    content = json.dumps([dataset.fingerprint, dataset.ids.tolist(), chosen, rest], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _check_identity(study: Study, identity: str) -> None:
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
    elif known != identity:
        raise StudyError(f"study {study.study_name}: begun on other data or with other settings; name another study")
