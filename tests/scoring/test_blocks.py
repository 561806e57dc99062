"""Blocks of rows get the bits of LightGBM, whatever the trees, the rows and their number."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.blocks import MOST_LEAVES, BlockTables
from scoring.model import Model
from scoring.trees import Tree, read_trees
from tests.scoring.test_trees import fitted, hostile


def blocks_of(booster: lgb.Booster) -> BlockTables:
    trees = read_trees(booster.model_to_string(), MOST_LEAVES)
    assert trees is not None
    return BlockTables(trees)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 16), missing=st.booleans(), zero=st.booleans())
def test_blocks_give_the_bits_of_lightgbm(seed: int, leaves: int, missing: bool, zero: bool) -> None:
    booster = fitted(seed, num_leaves=leaves, use_missing=missing, zero_as_missing=zero)
    matrix = hostile(np.random.default_rng(seed + 1))
    assert np.array_equal(blocks_of(booster).margins(matrix), booster.predict(matrix, raw_score=True))


@pytest.mark.parametrize("leaves", [8, 9, 10, 16])
def test_a_row_has_the_same_bits_in_blocks_of_any_size(leaves: int) -> None:
    booster = fitted(1, num_leaves=leaves)
    blocks, matrix = blocks_of(booster), np.tile(hostile(np.random.default_rng(2)), (6, 1))
    expected = booster.predict(matrix, raw_score=True)
    for rows in (0, 1, 2, 3, 63, 64, 1_023, 1_024, 1_025, 2_049):
        assert np.array_equal(blocks.margins(matrix[:rows]), expected[:rows])


def test_trees_of_one_leaf_add_their_value_to_every_row() -> None:
    stump = Tree((), (), (), (), (), (0.5,), (10.0,), ())
    assert BlockTables([stump, stump]).margins(np.zeros((2, 3))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("parameters", [{"num_leaves": 16}, {"num_leaves": 17}, {"linear_tree": True}])
def test_a_model_has_the_same_bits_for_one_row_and_for_many(parameters: dict[str, Any]) -> None:
    booster = fitted(7, **parameters)
    model, matrix = Model(booster.model_to_string()), hostile(np.random.default_rng(8))
    expected = booster.predict(matrix, raw_score=True)
    assert np.array_equal(model.margins(matrix), expected, equal_nan=True)
    assert np.array_equal([model.margins(row[np.newaxis])[0] for row in matrix], expected, equal_nan=True)
    assert np.array_equal(model.margins(np.asfortranarray(matrix)), expected, equal_nan=True)


def test_more_than_sixteen_leaves_are_left_to_lightgbm() -> None:
    assert read_trees(fitted(3, num_leaves=17).model_to_string(), MOST_LEAVES) is None
