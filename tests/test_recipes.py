"""The recipes of examples/, run on generated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from configs.portfolios.home_credit.generator.population import Split
from examples.causal_effect import causal_effect, draw_loans, lines, naive_effect, smaller_annuity
from examples.federated_training import LENDERS, LenderBook, prices

pytestmark = pytest.mark.slow
SCALE, SEED = 0.9, 1


def test_the_causal_reading_covers_the_true_effect_and_the_naive_one_has_the_wrong_sign() -> None:
    loans = draw_loans(40_000, SCALE, SEED)
    found = causal_effect(loans, SCALE, SEED)
    assert loans.true_effect < 0 < naive_effect(loans, SCALE)
    assert found.low <= loans.true_effect <= found.high
    assert found.high < 0


def test_an_annuity_that_stays_has_no_effect() -> None:
    assert draw_loans(500, 1.0, SEED).true_effect == 0
    assert smaller_annuity(1.0).__name__ == "intervene"


def test_both_readings_are_shown_beside_the_truth() -> None:
    shown = [line[:31].strip() for line in lines(3_000, SCALE, SEED)]
    assert shown[1:] == ["a model of the annuity alone", "a model of all columns", "doubly robust", "true"]


def test_the_lenders_have_different_populations() -> None:
    first, second = (LenderBook.drawn(population, 4_000, SEED) for population in (Split.TRAIN, Split.TEST))
    assert first.matrix.shape == second.matrix.shape
    assert not np.allclose(np.nanmean(first.matrix, axis=0), np.nanmean(second.matrix, axis=0), rtol=0.01)


def test_two_lenders_fit_a_model_that_is_worth_that_of_all_rows() -> None:
    found = {price.lender: price for price in prices(8_000, SEED)}
    assert list(found) == list(LENDERS)
    for price in found.values():
        assert price.than_pooled.low < 0 < price.than_pooled.high
        assert price.than_pooled.value > -0.005
        assert price.than_alone.value > 0
    assert found["second"].than_alone.low > 0
