"""The model families, each fitted on one fold."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from training.fitting import fit_early_stopped, margins_of
from training.settings import Family, ModelSelectionSettings, ModelSettings, TrainingSettings

from .candidate import Candidate, Margins, log_odds
from .encoding import encoder
from .fold import FoldMatrices

Fit = Callable[[FoldMatrices], Margins]


def candidate(family: Family, settings: TrainingSettings) -> Candidate:
    """The family as the settings want it fitted."""
    chosen, model, seed = settings.experiments.model_selection, settings.model, settings.seed
    if family is Family.LIGHTGBM:
        return Candidate(family, model.parameters.stated(), _lightgbm(model, seed))
    if family is Family.DUMMY:
        return Candidate(family, {}, lambda fold: np.zeros(len(fold.judged)))
    return Candidate(family, getattr(chosen, family).model_dump(mode="json"), _FITS[family](chosen, model, seed))


def _lightgbm(model: ModelSettings, seed: int) -> Fit:
    def margins(fold: FoldMatrices) -> Margins:
        booster = fit_early_stopped(fold.fitted, fold.target, fold.categorical, model, names=fold.names, seed=seed)
        return margins_of(booster, fold.judged, threads=model.threads)

    return margins


def _logistic_regression(settings: ModelSelectionSettings, _: ModelSettings, seed: int) -> Fit:
    chosen = settings.logistic_regression
    estimator = LogisticRegression(C=chosen.inverse_penalty, max_iter=chosen.max_iterations, random_state=seed)
    return lambda fold: _encoded(estimator, fold)


def _neural_network(settings: ModelSelectionSettings, _: ModelSettings, seed: int) -> Fit:
    chosen = settings.neural_network
    estimator = MLPClassifier(
        chosen.hidden,
        alpha=chosen.penalty,
        learning_rate_init=chosen.learning_rate,
        batch_size=chosen.batch_rows,
        max_iter=chosen.epochs,
        random_state=seed,
    )
    return lambda fold: _encoded(estimator, fold)


def _encoded(estimator: ClassifierMixin, fold: FoldMatrices) -> Margins:
    pipeline = make_pipeline(encoder(len(fold.names), fold.categorical), estimator)
    with warnings.catch_warnings():
        # The epochs of the network are a setting, not a failure to converge.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        pipeline.fit(fold.fitted, fold.target)
    return log_odds(pipeline.predict_proba(fold.judged)[:, 1])


def _random_forest(settings: ModelSelectionSettings, model: ModelSettings, seed: int) -> Fit:
    chosen = settings.random_forest

    def margins(fold: FoldMatrices) -> Margins:
        forest = RandomForestClassifier(
            chosen.trees,
            min_samples_leaf=chosen.min_samples_leaf,
            max_features=chosen.max_features,
            n_jobs=model.threads,
            random_state=seed,
        )
        forest.fit(np.nan_to_num(fold.fitted, nan=np.nan), fold.target)
        forest.n_jobs = 1  # threads would add the trees up in another order each time
        return log_odds(forest.predict_proba(np.nan_to_num(fold.judged, nan=np.nan))[:, 1])

    return margins


def _xgboost(settings: ModelSelectionSettings, model: ModelSettings, seed: int) -> Fit:
    chosen, stopping = settings.xgboost, model.early_stopping

    def margins(fold: FoldMatrices) -> Margins:
        import xgboost

        kinds = ["c" if i in fold.categorical else "q" for i in range(len(fold.names))]

        def data(rows: np.ndarray, target: np.ndarray | None = None) -> xgboost.DMatrix:
            return xgboost.DMatrix(
                np.nan_to_num(rows, nan=np.nan), target, feature_types=kinds, enable_categorical=True
            )

        fitted, judging = train_test_split(
            np.arange(len(fold.target)), test_size=stopping.share, random_state=seed, stratify=fold.target
        )
        booster = xgboost.train(
            {**chosen.model_dump(), "objective": "binary:logistic", "seed": seed, "nthread": model.threads},
            data(fold.fitted[fitted], fold.target[fitted]),
            num_boost_round=model.max_trees,
            evals=[(data(fold.fitted[judging], fold.target[judging]), "judging")],
            early_stopping_rounds=stopping.rounds,
            verbose_eval=False,
        )
        best = (0, booster.best_iteration + 1)
        return np.asarray(booster.predict(data(fold.judged), output_margin=True, iteration_range=best), np.float64)

    return margins


_FITS: dict[Family, Callable[[ModelSelectionSettings, ModelSettings, int], Fit]] = {
    Family.LOGISTIC_REGRESSION: _logistic_regression,
    Family.RANDOM_FOREST: _random_forest,
    Family.NEURAL_NETWORK: _neural_network,
    Family.XGBOOST: _xgboost,
}
