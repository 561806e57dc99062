"""What a trial is worth: fold by fold on matrices that are made once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna import TrialPruned
from optuna.trial import Trial
from scipy.special import expit

from features import FeatureTransformer
from training.data import Dataset
from training.evaluation import Ranking, auc, decision_policy
from training.fitting import fit_early_stopped, fit_state, margins_of, splits
from training.settings import Objective, TrainingSettings

from .space import suggest, tuned

FOLDS = "folds"
"""Attribute of a trial: what was measured on each of its folds."""
SEEN = "seen"
"""Attribute of a trial: when its process last got somewhere, in seconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class TuningFold:
    """The matrices and outcomes of one fold; features are fitted on the fitted rows alone."""

    fitted: NDArray[np.float64]
    fitted_target: NDArray[np.int64]
    judged: NDArray[np.float64]
    judged_target: NDArray[np.int64]
    categorical: tuple[int, ...]
    names: tuple[str, ...]


def tuning_folds(dataset: Dataset, folds: int, settings: TrainingSettings) -> list[TuningFold]:
    """The folds that every trial is judged on."""
    return [
        tuning_fold(dataset, fitted, judged, settings)
        for fitted, judged in splits(dataset.target, folds, seed=settings.seed)
    ]


def tuning_fold(
    dataset: Dataset, fitted: NDArray[np.intp], judged: NDArray[np.intp], settings: TrainingSettings
) -> TuningFold:
    """One fold with these rows."""
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
    """The mean score over the folds; TrialPruned once the trial is given up.

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
        if step >= reported:
            trial.report(mean, step)
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
    """Margins of the judged rows by a model with these parameters, and its number of trees."""
    model = tuned(settings.model, suggested)
    booster = fit_early_stopped(
        fold.fitted, fold.fitted_target, fold.categorical, model, names=fold.names, seed=settings.seed
    )
    return margins_of(booster, fold.judged, threads=model.threads), int(booster.best_iteration)


def score_of(target: NDArray[np.int64], margins: NDArray[np.float64], settings: TrainingSettings) -> float:
    """The objective of margins; what depends on a cut-off takes the policy's, never one searched on these rows."""
    objective = settings.tuning.objective
    if objective is Objective.AUC:
        return auc(target, margins)
    ranking = Ranking.of(target, expit(margins), settings.evaluation.calibration_bins)
    measured = ranking.statistics(np.ones(len(target)), decision_policy(settings.policy), settings.evaluation)
    return measured[objective.value]
