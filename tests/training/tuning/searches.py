"""A small search for tests."""

from __future__ import annotations

import optuna

from training.dataset import Dataset
from training.search.study import FOLDS, open_study, run_trials, tuning_folds
from training.settings import TrainingSettings

TRIALS = 5


def changed(settings: TrainingSettings, **changes: object) -> TrainingSettings:
    values = settings.model_dump(mode="json")
    values["model"]["max_trees"] = 30
    small = {"trials": TRIALS, "folds": 2, "startup_trials": 2, "nested": None}
    values["tuning"] |= small | {"pruning": {"startup_trials": 2, "warmup_folds": 0}} | changes
    return TrainingSettings.model_validate(values)


def searched(dataset: Dataset, settings: TrainingSettings, trials: int = TRIALS) -> optuna.Study:
    study = open_study(settings.tuning.study, dataset, settings)
    run_trials(study, trials, tuning_folds(dataset, settings.tuning.folds, settings), settings)
    return study


def summary(study: optuna.Study) -> list[tuple[object, ...]]:
    """What may not differ between two searches: states, parameters, values and scores of all trials."""
    return [
        (
            trial.number,
            trial.state,
            tuple(trial.params.items()),
            tuple(trial.values or ()),
            tuple(trial.intermediate_values.items()),
            tuple((fold["score"], fold["trees"]) for fold in trial.user_attrs[FOLDS]),
        )
        for trial in study.trials
    ]
