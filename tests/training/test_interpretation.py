"""What is said of a fitted model."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from training.fitting import fit_trees, margins_of
from training.run import Delivered
from training.settings import InterpretationSettings, TrainingSettings
from training.trainer import interpret

CHOSEN = InterpretationSettings(rows=500, features=2, bins=4)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    drawn = np.random.default_rng(1).normal(size=(2000, 3))
    drawn[:400, 0] = np.nan
    return drawn


@pytest.fixture(scope="module")
def booster(matrix: np.ndarray, settings: TrainingSettings) -> lgb.Booster:
    """Rising in the first feature, less in the second, not at all in the third."""
    random = np.random.default_rng(2)
    margin = 2 * np.nan_to_num(matrix[:, 0], nan=-3) + matrix[:, 1]
    target = (random.random(2000) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    return fit_trees(matrix, target, (), settings.model, names=("a", "b", "c"), trees=80, seed=1)


def test_features_are_named_by_their_strength(matrix: np.ndarray, booster: lgb.Booster) -> None:
    said = interpret(booster, matrix, ("a", "b", "c"), CHOSEN, seed=1)
    assert [name for name, _ in said.contributions] == ["a", "b", "c"]
    assert sum(share for _, share in said.contributions) == pytest.approx(1)
    assert said.rows == 500
    assert [dependence.feature for dependence in said.dependence] == ["a", "b"]


def test_dependence_rises_where_the_model_does_and_shows_missing_values(
    matrix: np.ndarray, booster: lgb.Booster
) -> None:
    first, second = interpret(booster, matrix, ("a", "b", "c"), CHOSEN, seed=1).dependence
    *known, missing = first.points
    contributions = [point.contribution for point in known]
    assert (len(known), contributions) == (4, sorted(contributions))
    assert missing.value is None
    assert missing.contribution < 0
    assert sum(point.rows for point in first.points) == 500
    assert all(point.value is not None for point in second.points)


def test_contributions_add_up_to_the_margin(matrix: np.ndarray, booster: lgb.Booster) -> None:
    """What the points are made of, on all rows: their sums and the model's mean margin are the margins."""
    every = InterpretationSettings(rows=2000, features=3, bins=4)
    said = interpret(booster, matrix, ("a", "b", "c"), every, seed=1)
    total = sum(point.contribution * point.rows for one in said.dependence for point in one.points) / 2000
    expected = booster.predict(matrix, pred_contrib=True)[:, -1].mean()
    assert total + expected == pytest.approx(margins_of(booster, matrix, threads=1).mean())


def test_a_category_is_shown_level_by_level(settings: TrainingSettings) -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 5, size=(2000, 1)).astype(np.float64)
    target = (random.random(2000) < np.array([0.1, 0.7, 0.2, 0.8, 0.3])[codes[:, 0].astype(int)]).astype(np.int64)
    booster = fit_trees(codes, target, (0,), settings.model, names=("a",), trees=20, seed=1)
    every = InterpretationSettings(rows=2000, features=1, bins=2)
    (dependence,) = interpret(booster, codes, ("a",), every, categorical=(0,), seed=1).dependence
    assert [point.value for point in dependence.points] == [0, 1, 2, 3, 4]
    assert [point.rows for point in dependence.points] == np.bincount(codes[:, 0].astype(int)).tolist()
    assert [point.contribution > 0 for point in dependence.points] == [False, True, False, True, False]


def test_the_delivered_model_is_interpreted(delivered: Delivered) -> None:
    said = delivered.trained.interpretation
    assert {name for name, _ in said.contributions} == set(delivered.trained.features.names)
    assert said.dependence[0].feature == said.contributions[0][0]
