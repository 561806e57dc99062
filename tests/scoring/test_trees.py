"""Outcome patterns decide as LightGBM's own trees do, for every kind of split that is read."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scoring.blocks import BlockTables
from scoring.model import Model
from scoring.trees import OutcomePatterns, Tree, TreeTables, read_thresholds, read_trees

ROWS = 400


def fitted(seed: int, *, trees: int = 12, **parameters: Any) -> lgb.Booster:
    """A small model of three numbers and two categories, with missing values, zeros and infinities."""
    random = np.random.default_rng(seed)
    matrix = drawn(random)
    clean = np.nan_to_num(matrix, nan=-1.0, posinf=3.0, neginf=-3.0)
    margin = clean[:, 0] - clean[:, 1] + np.isnan(matrix[:, 2]) + (clean[:, 3] % 3) - (clean[:, 4] == 2)
    target = (random.random(ROWS) < 1 / (1 + np.exp(1 - margin))).astype(int)
    fit = {
        "objective": "binary", "num_leaves": 8, "min_data_in_leaf": 5, "min_data_per_group": 1, "cat_smooth": 1.0,
        "max_cat_to_onehot": 1, "num_threads": 1, "seed": seed, "verbosity": -1,
    }  # fmt: skip
    data = lgb.Dataset(matrix, target, categorical_feature=[3, 4], params={"verbosity": -1})
    return lgb.train({**fit, **parameters}, data, num_boost_round=trees)


def drawn(random: np.random.Generator) -> NDArray[np.float64]:
    """Rows of the model matrix."""
    numbers = random.normal(size=(ROWS, 3))
    numbers[random.random(numbers.shape) < 0.2] = np.nan
    numbers[random.random(numbers.shape) < 0.05] = 0.0
    codes = random.integers(0, 40, size=(ROWS, 2)).astype(np.float64)
    codes[random.random(codes.shape) < 0.1] = np.nan
    return np.concatenate([numbers, codes], axis=1)


def hostile(random: np.random.Generator) -> NDArray[np.float64]:
    """Rows with infinities, unknown and negative codes, and fractions of codes."""
    matrix = drawn(random)
    matrix[:20], matrix[20:40] = np.inf, -np.inf
    matrix[40:60, 3:] = 1e9
    matrix[60:80, 3:] = -1.0
    matrix[80:100, 3:] += 0.75
    matrix[100:120] = np.nan
    matrix[120:160, :3] = random.choice([1e-35, -1e-35, 1e-36, -1e-36, 2e-35, -2e-35], size=(40, 3))
    matrix[160:180, :3] = random.choice([np.float32(1e-35), -np.float32(1e-35)], size=(20, 3))
    return matrix


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 8), missing=st.booleans(), zero=st.booleans())
def test_tables_give_the_bits_of_lightgbm(seed: int, leaves: int, missing: bool, zero: bool) -> None:
    booster = fitted(seed, num_leaves=leaves, use_missing=missing, zero_as_missing=zero)
    trees = read_trees(booster.model_to_string())
    matrix = hostile(np.random.default_rng(seed + 1))
    assert trees is not None
    tables = TreeTables(trees)
    expected = booster.predict(matrix, raw_score=True)
    assert np.array_equal(tables.margins(matrix), expected)
    alone = [tables.margins(matrix[i : i + 1])[0] for i in range(0, ROWS, 20)]
    assert np.array_equal(alone, expected[::20])


def test_a_row_has_the_same_pattern_alone_and_among_others() -> None:
    trees = read_trees(fitted(1).model_to_string())
    matrix = hostile(np.random.default_rng(2))
    assert trees is not None
    patterns = OutcomePatterns(trees)
    together = patterns.of(matrix)
    assert all(np.array_equal(patterns.of(matrix[i : i + 1])[0], together[i]) for i in range(ROWS))


def test_a_tree_of_one_leaf_has_one_pattern() -> None:
    stump = Tree((), (), (), (), (), (0.5,), (10.0,), ())
    assert OutcomePatterns([stump]).of(np.zeros((2, 3))).tolist() == [[0], [0]]
    assert stump.paths() == [(0, [])]


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_leaves": 9},
        {"linear_tree": True},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    ],
    ids=["nine leaves", "linear leaves", "averaged trees"],
)
def test_other_trees_are_not_read(parameters: dict[str, Any]) -> None:
    assert read_trees(fitted(3, **parameters).model_to_string()) is None


def test_a_model_takes_lightgbm_where_tables_would_give_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    text = fitted(6).model_to_string()
    assert Model(text).tables is not None
    monkeypatch.setattr(TreeTables, "margins", lambda _, matrix: np.zeros(len(matrix)))
    assert Model(text).tables is None
    monkeypatch.setattr(BlockTables, "margins", lambda _, matrix: np.zeros(len(matrix)))
    assert Model(text).margins(np.ones((ROWS, 5))).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 31), zero=st.booleans())
def test_a_margin_changes_only_where_a_value_crosses_a_threshold(seed: int, leaves: int, zero: bool) -> None:
    text = fitted(seed, num_leaves=leaves, zero_as_missing=zero).model_to_string()
    thresholds, random = read_thresholds(text, 5), np.random.default_rng(seed)
    assert thresholds is not None
    row, model = drawn(random)[0], Model(text)
    for feature in range(3):
        # LightGBM reads its own -1e-35 back as a number one bit away.
        exact = thresholds[feature][np.abs(thresholds[feature]) > 1e-30]
        values = np.sort(np.concatenate([random.normal(size=2_000), exact, [0.0, 1e-36, -1e-36]]))
        rows = np.repeat(row[np.newaxis], len(values), axis=0)
        rows[:, feature] = values
        margins, regions = model.margins(rows), thresholds[feature].searchsorted(values)
        assert not (np.diff(margins).astype(bool) & ~np.diff(regions).astype(bool)).any()


def test_categories_have_no_thresholds() -> None:
    thresholds = read_thresholds(fitted(4).model_to_string(), 5)
    assert thresholds is not None
    assert [len(one) > 0 for one in thresholds] == [True, True, True, False, False]


def test_the_margins_of_linear_trees_change_between_thresholds_too() -> None:
    assert read_thresholds(fitted(3, linear_tree=True).model_to_string(), 5) is None
