"""A book of which everything is known: its truth, and what an exploration shows of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.exploration import ExploredBook
from scoring.policy import ExploreRule


def test_the_truth_is_of_approved_and_of_declines_that_may_be_explored() -> None:
    probability = np.array([0.02, 0.04, 0.06, 0.09, 0.2, 0.3, 0.9])
    outcome = np.array([0, 1, 0, 1, 0, 1, 1], dtype=np.int8)
    book = ExploredBook(probability, outcome, np.array([0, 0, 0, 1, 2, 2, 2], dtype=np.int8), ExploreRule(0.5, 0.5))
    # Without the referred one and the one above 0.5, four of the six pairs are in order.
    assert book.truth() == pytest.approx(
        {"AUC": 4 / 6, "default rate": 2 / 5, "observed over expected": 2 / 0.62}, rel=1e-12
    )
    seen = [book.explored(np.random.default_rng(seed)) for seed in range(40)]
    assert {tuple(one.probability[~one.explored].tolist()) for one in seen} == {(0.02, 0.04, 0.06)}
    assert {tuple(one.probability[one.explored].tolist()) for one in seen} == {(), (0.2,), (0.3,), (0.2, 0.3)}
    assert seen[0].decisions.tolist() == [3, 1, 3]
