from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.portfolios.home_credit.generator.draws import (
    CountDistribution,
    Marginal,
    blend,
    chance,
    effect,
    missing_where,
    runs,
    to_decimals,
    to_multiple,
)
from configs.portfolios.home_credit.generator.loan import annuity, outstanding

UNIFORM = Marginal((0.0, 100.0), (0.0, 1.0))


def test_marginal_maps_scores_to_quantiles():
    assert UNIFORM.at(np.array([-np.inf, 0.0, np.inf])).tolist() == [0.0, 50.0, 100.0]


def test_counts_map_scores_to_whole_numbers():
    assert CountDistribution((0.5, 0.25, 0.25)).at(np.array([-1.0, 0.5, 1.0])).tolist() == [0.0, 1.0, 2.0]


def test_blend_has_the_stated_correlation_and_unit_variance():
    rng = np.random.default_rng(0)
    driver, other = rng.standard_normal((2, 100_000))
    scores = blend(rng, (0.6, driver), (-0.3, other))
    assert np.corrcoef([scores, driver, other])[0, 1:] == pytest.approx([0.6, -0.3], abs=0.01)
    assert scores.std() == pytest.approx(1, abs=0.01)


def test_chance_of_never_and_always():
    rng = np.random.default_rng(0)
    assert chance(rng, np.array([0.0, 1.0]), 2).tolist() == [False, True]


def test_rounding():
    assert to_multiple(np.array([6.7, 6.8]), 4.5).tolist() == [4.5, 9.0]
    assert to_decimals(np.array([0.12344, 0.12346]), 4).tolist() == [0.1234, 0.1235]


def test_effects_and_missing_values_follow_the_condition():
    condition = np.array([True, False])
    assert effect(condition, 0.5).tolist() == [0.5, 0.0]
    assert np.isnan(missing_where(condition, np.array([1, 2]))).tolist() == [True, False]


def test_runs_of_no_owner():
    assert runs(np.array([], dtype=np.int64)).owner.tolist() == []


@given(st.lists(st.integers(0, 5), max_size=8))
def test_runs_count_the_steps_of_each_owner(lengths):
    rows = runs(np.array(lengths, dtype=np.int64))
    expected = [(owner, step) for owner, length in enumerate(lengths) for step in range(length)]
    assert list(zip(rows.owner.tolist(), rows.step.tolist(), strict=True)) == expected


@given(st.floats(1e3, 1e7), st.floats(1e-3, 0.1), st.integers(1, 60))
def test_annuity_leaves_nothing_outstanding(credit, rate, months):
    amounts = np.array([credit]), np.array([rate])
    instalment = annuity(*amounts, np.array([float(months)]))
    assert outstanding(*amounts, instalment, np.array([float(months)]))[0] == pytest.approx(0, abs=1e-6 * credit)
    assert instalment[0] * months > credit
