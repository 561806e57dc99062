"""Fitting LightGBM, reproducibly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from scoring import stop_if_asked
from training.settings import ModelSettings

Matrix = NDArray[np.float64]


def fit_early_stopped(
    matrix: Matrix,
    target: NDArray[np.int64],
    categorical: tuple[int, ...],
    settings: ModelSettings,
    *,
    names: Sequence[str],
    seed: int,
) -> lgb.Booster:
    """A booster whose number of trees was judged on a stratified part of the rows given, and on no other row.

    `names` are the features of the matrix; those that the settings call monotone are.
    """
    fitted, judging = train_test_split(
        np.arange(len(target)), test_size=settings.early_stopping.share, random_state=seed, stratify=target
    )
    train = _dataset(matrix[fitted], target[fitted], categorical)
    return lgb.train(
        parameters(settings, seed, names),
        train,
        num_boost_round=settings.max_trees,
        valid_sets=[lgb.Dataset(matrix[judging], target[judging], reference=train)],
        callbacks=[stoppable, lgb.early_stopping(settings.early_stopping.rounds, verbose=False)],
    )


def fit_trees(
    matrix: Matrix,
    target: NDArray[np.int64],
    categorical: tuple[int, ...],
    settings: ModelSettings,
    *,
    names: Sequence[str],
    trees: int,
    seed: int,
) -> lgb.Booster:
    """A booster of exactly `trees` trees, fitted on all rows given."""
    return lgb.train(
        parameters(settings, seed, names),
        _dataset(matrix, target, categorical),
        num_boost_round=trees,
        callbacks=[stoppable],
    )


def stoppable(_: lgb.callback.CallbackEnv) -> None:
    """A callback of a fit, by which a signal ends the command after any tree."""
    stop_if_asked()


def parameters(settings: ModelSettings, seed: int, names: Sequence[str]) -> dict[str, Any]:
    """LightGBM's parameters: those of the settings, and what makes a fit repeatable on any number of threads."""
    return {
        **settings.parameters.stated(),
        **_monotone(settings, names),
        "objective": "binary",
        "metric": "binary_logloss",
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,  # twice as fast as by rows where a tree looks at a tenth of the features
        "num_threads": settings.threads,
        "verbosity": -1,
    }


def _monotone(settings: ModelSettings, names: Sequence[str]) -> dict[str, Any]:
    directions = [settings.monotone.get(name, 0) for name in names]
    # The method "advanced" costs the least accuracy (LightGBM's documentation of monotone_constraints_method).
    return {"monotone_constraints": directions, "monotone_constraints_method": "advanced"} if any(directions) else {}


def margins_of(booster: lgb.Booster, matrix: Matrix, *, threads: int) -> NDArray[np.float64]:
    """Raw log-odds of the rows at the best iteration, shape (n,)."""
    return np.asarray(booster.predict(matrix, raw_score=True, num_threads=threads), dtype=np.float64)


def gain(booster: lgb.Booster) -> NDArray[np.float64]:
    """Total gain of the splits on each feature, shape (d,)."""
    return np.asarray(booster.feature_importance("gain"), dtype=np.float64)


def text(booster: lgb.Booster) -> str:
    """The model as text, cut at the best iteration where it was stopped early."""
    return str(booster.model_to_string(num_iteration=booster.best_iteration or -1))


def _dataset(matrix: Matrix, target: NDArray[np.int64], categorical: tuple[int, ...]) -> lgb.Dataset:
    return lgb.Dataset(matrix, target, categorical_feature=list(categorical), free_raw_data=True)
