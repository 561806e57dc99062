"""A study keeps its trials in a database; one process or many run them, each trial fold by fold.

The number of a trial and the finished trials before it decide its parameters. Another process takes over the trial of
a killed one where it stopped, so no trial is lost and none is repeated. Matrices are made once for all trials.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna import TrialPruned
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.special import expit
from sqlalchemy.exc import SQLAlchemyError

from features.transformer import FeatureTransformer
from monitoring.measures import Ranking, auc
from training.dataset import Dataset
from training.errors import StudyError
from training.evaluation import decision_policy
from training.fitting import fit_early_stopped, fit_state, margins_of, splits
from training.search_settings import (
    DRAWING_ROWS,
    Objective,
    SearchSpace,
    TreeParameters,
    WholeRange,
    without_credentials,
)
from training.settings import ModelSettings, TrainingSettings

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
FOLDS = "folds"
"""The attribute of a trial that holds the measurements of its folds."""
SEEN = "seen"
"""The attribute of a trial that says when a fold last ended, in seconds since 1970."""
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
        try:
            for name, value in _claim().items():
                trial.set_user_attr(name, value)
            study.tell(trial, value_of(trial, folds, settings), skip_if_finished=True)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except UpdateFinishedTrialError:
            continue  # SQLite lets two processes take one queued trial: the other has finished it, with the same value
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
    comparable = {"objective", "folds", "startup_trials", "pruning", "space"}
    return search_identity(dataset, settings, settings.tuning.model_dump(mode="json", include=comparable))


def search_identity(dataset: Dataset, settings: TrainingSettings, searched: Any) -> str:
    """Digest of the data and settings that trials must share to be comparable; `searched` is JSON-ready."""
    rest = settings.model_dump(mode="json", include={"seed", "features", "model", "policy", "evaluation"})
    # The number of threads changes no bit of a fit, so another machine may go on with the study.
    rest["model"].pop("threads")
    content = json.dumps([dataset.fingerprint, dataset.ids.tolist(), searched, rest], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _check_identity(study: Study, identity: str) -> None:
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
    elif known != identity:
        raise StudyError(f"study {study.study_name}: begun on other data or with other settings; name another study")


class TrialSeededSampler(BaseSampler):
    """The tree-structured Parzen estimator (J. Bergstra et al., NIPS 2011), seeded for each trial and parameter.

    Optuna's own sampler draws from one stream, which starts again when a study is resumed in another process: trials
    would repeat.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self._seed = seed
        self._startup_trials = startup_trials

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return no parameters: none is drawn together with another, and Optuna draws each by itself."""
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return no values, since no parameter is drawn together with another."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw the value of one parameter of one trial."""
        # A checksum rather than `hash`, which differs between processes.
        entropy = [self._seed, trial.number, zlib.crc32(param_name.encode())]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        sampler = TPESampler(seed=seed, n_startup_trials=self._startup_trials)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def suggest(trial: Trial, space: SearchSpace, *, fixed: Collection[str] = ()) -> dict[str, Any]:
    """Draw the searched parameters of a trial but the `fixed` ones, and add those that they need to have an effect."""
    suggested: dict[str, Any] = {}
    for name, searched in space:
        if name in fixed:
            continue
        if isinstance(searched, WholeRange):
            suggested[name] = trial.suggest_int(name, searched.low, searched.high, log=searched.log)
        else:
            suggested[name] = trial.suggest_float(name, searched.low, searched.high, log=searched.log)
    return suggested | DRAWING_ROWS


def tuned(model: ModelSettings, suggested: dict[str, Any]) -> ModelSettings:
    """Replace the parameters in the model settings by the searched ones."""
    parameters = TreeParameters.model_validate({**model.parameters.model_dump(), **suggested})
    return model.model_copy(update={"parameters": parameters})


@dataclass(frozen=True, slots=True, eq=False)
class TuningFold:
    """The matrices and outcomes of one fold; its features were fitted on the fitted rows alone."""

    fitted: NDArray[np.float64]
    fitted_target: NDArray[np.int64]
    judged: NDArray[np.float64]
    judged_target: NDArray[np.int64]
    categorical: tuple[int, ...]
    names: tuple[str, ...]


def tuning_folds(dataset: Dataset, folds: int, settings: TrainingSettings) -> list[TuningFold]:
    """Make the folds that judge every trial."""
    return [
        tuning_fold(dataset, fitted, judged, settings)
        for fitted, judged in splits(dataset.target, folds, seed=settings.seed)
    ]


def tuning_fold(
    dataset: Dataset, fitted: NDArray[np.intp], judged: NDArray[np.intp], settings: TrainingSettings
) -> TuningFold:
    """Make the fold of these fitted and judged rows."""
    columns, target = dataset.columns.take(fitted), dataset.target[fitted]
    transformer = FeatureTransformer(fit_state(columns, target, settings.features, settings.model, seed=settings.seed))
    return TuningFold(
        fitted=transformer.transform(columns),
        fitted_target=target,
        judged=transformer.transform(dataset.columns.take(judged)),
        judged_target=dataset.target[judged],
        categorical=transformer.categorical,
        names=transformer.names,
    )


def value_of(trial: Trial, folds: Sequence[TuningFold], settings: TrainingSettings) -> float:
    """Score a trial: the mean over the folds; TrialPruned if the trial ends early.

    Folds that an earlier process measured before it was killed are not measured again.
    """
    suggested = suggest(trial, settings.tuning.space)
    measured = list(trial.user_attrs.get(FOLDS, []))
    reported = len(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
    for step, fold in enumerate(folds):
        if step == len(measured):
            measured.append(_measure(fold, suggested, settings))
            trial.set_user_attr(FOLDS, measured)
            trial.set_user_attr(SEEN, time.time())
        mean = float(np.mean([one["score"] for one in measured[: step + 1]]))
        # Optuna ignores a second report of a step and warns: those of a killed process are not repeated.
        if step >= reported:
            trial.report(mean, step)
        # Ending a trial early after its last fold would save nothing and lose a complete one.
        if step + 1 < len(folds) and trial.should_prune():
            raise TrialPruned
    return mean


def _measure(fold: TuningFold, suggested: dict[str, float], settings: TrainingSettings) -> dict[str, float]:
    started = time.monotonic()
    margins, trees = fitted_margins(fold, suggested, settings)
    score = score_of(fold.judged_target, margins, settings)
    return {"score": score, "trees": trees, "seconds": time.monotonic() - started}


def fitted_margins(
    fold: TuningFold, suggested: dict[str, float], settings: TrainingSettings
) -> tuple[NDArray[np.float64], int]:
    """Fit a model with these parameters and return the margins of the judged rows and its number of trees."""
    model = tuned(settings.model, suggested)
    booster = fit_early_stopped(
        fold.fitted, fold.fitted_target, fold.categorical, model, names=fold.names, seed=settings.seed
    )
    return margins_of(booster, fold.judged, threads=model.threads), int(booster.best_iteration)


def score_of(target: NDArray[np.int64], margins: NDArray[np.float64], settings: TrainingSettings) -> float:
    """Measure the objective of margins; the cut-off is the policy's, never one searched on these rows."""
    objective = settings.tuning.objective
    if objective is Objective.AUC:
        return auc(target, margins)
    # Not calibrated: margins of fitted rows are too extreme to calibrate on, and the judged rows must stay unseen.
    ranking = Ranking.of(target, expit(margins), settings.evaluation.calibration_bins)
    measured = ranking.statistics(np.ones(len(target)), decision_policy(settings.policy), settings.evaluation)
    return measured[objective.value]
