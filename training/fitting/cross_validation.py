"""Stratified cross-validation in which everything is fitted inside the fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from features import Columns, FeatureSettings, FeatureState, FeatureTransformer, fit_features
from training.data import Dataset
from training.evaluation import auc
from training.settings import ModelSettings

from .booster import fit_early_stopped, fit_trees, gain, margins_of

Advance = Callable[[], object]
_TREES_OF_FIRST_MODEL = 100


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """One fold: which features were chosen, how many trees, and how well the judged rows were ranked."""

    judged: NDArray[np.intp]
    features: tuple[str, ...]
    trees: int
    auc: float


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """The folds, and for every row the margin from the one model that never saw it, float64 of shape (n,)."""

    folds: tuple[Fold, ...]
    margins: NDArray[np.float64]

    @property
    def trees(self) -> int:
        """Mean number of trees over the folds, rounded: what a model refitted on all rows takes."""
        return max(1, round(float(np.mean([fold.trees for fold in self.folds]))))


def cross_validate(
    dataset: Dataset,
    features: FeatureSettings,
    model: ModelSettings,
    *,
    seed: int,
    progress: Advance = lambda: None,
) -> CrossValidation:
    """Out-of-fold margins of every row. `progress` is called after each fold."""
    margins = np.empty(len(dataset))
    folds = []
    for fitted, judged in splits(dataset.target, model.folds, seed=seed):
        columns, target = dataset.columns.take(fitted), dataset.target[fitted]
        state = fit_state(columns, target, features, model, seed=seed)
        transformer = FeatureTransformer(state)
        booster = fit_early_stopped(
            transformer.transform(columns), target, transformer.categorical, model, names=state.names, seed=seed
        )
        matrix = transformer.transform(dataset.columns.take(judged))
        margins[judged] = margins_of(booster, matrix, threads=model.threads)
        score = auc(dataset.target[judged], margins[judged])
        folds.append(Fold(judged, state.names, booster.best_iteration, score))
        progress()
    return CrossValidation(tuple(folds), margins)


def splits(target: NDArray[np.int64], folds: int, *, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows that each fold fits on and those it judges, stratified by outcome: the same for every model."""
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(target, target)


def fit_state(
    columns: Columns, target: NDArray[np.int64], features: FeatureSettings, model: ModelSettings, *, seed: int
) -> FeatureState:
    """The feature state fitted on these rows alone; a first small model ranks features if that filter is on."""

    def importance(matrix: NDArray[np.float64], categorical: tuple[int, ...]) -> NDArray[np.float64]:
        free = model.model_copy(update={"monotone": {}})
        return gain(fit_trees(matrix, target, categorical, free, names=(), trees=_TREES_OF_FIRST_MODEL, seed=seed))

    return fit_features(columns, features, importance=importance)
