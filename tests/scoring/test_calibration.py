from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ArtefactError
from scoring.model import Calibration
from tests.features.examples import bits

SLOPES = st.floats(0.1, 10)
INTERCEPTS = st.floats(-5, 5)


@pytest.mark.parametrize(
    ("slope", "intercept", "margin", "probability"),
    [
        (1.0, 0.0, 0.0, 0.5),
        (2.0, 0.0, math.log(3) / 2, 0.75),
        (1.0, -math.log(4), 0.0, 0.2),
        (0.5, math.log(3), -2 * math.log(3), 0.5),
        (1.0, 0.0, -800.0, 0.0),
        (1.0, 0.0, 800.0, 1.0),
    ],
)
def test_the_probability_is_the_logistic_of_the_line(slope, intercept, margin, probability):
    calibration = Calibration(slope=slope, intercept=intercept)
    assert calibration.probabilities(np.array([margin]))[0] == pytest.approx(probability, rel=1e-14)
    assert calibration.log_odds(np.array([margin]))[0] == slope * margin + intercept


@given(SLOPES, INTERCEPTS, st.lists(st.integers(-1500, 1500), min_size=2, unique=True))
def test_a_higher_margin_is_a_higher_probability(slope, intercept, thousandths):
    margins = np.sort(np.array(thousandths) / 1000 / slope)
    probabilities = Calibration(slope=slope, intercept=intercept).probabilities(margins)
    assert (np.diff(probabilities) > 0).all()


@given(SLOPES, INTERCEPTS, st.lists(st.floats(-1000, 1000), min_size=2))
def test_no_margin_is_reordered_and_every_probability_is_one(slope, intercept, margins):
    probabilities = Calibration(slope=slope, intercept=intercept).probabilities(np.sort(np.array(margins)))
    assert (np.diff(probabilities) >= 0).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@given(SLOPES, INTERCEPTS, st.lists(st.floats(-50, 50), min_size=1, max_size=40))
def test_each_probability_is_computed_from_its_own_margin(slope, intercept, margins):
    calibration = Calibration(slope=slope, intercept=intercept)
    alone = [calibration.probabilities(np.array([margin])) for margin in margins]
    assert bits(np.concatenate(alone)) == bits(calibration.probabilities(np.array(margins)))


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(0.0, 0.0), (-0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, math.inf)],
)
def test_a_calibration_that_reorders_or_ties_is_refused(slope, intercept):
    with pytest.raises(ArtefactError, match=r"^a calibration needs a positive, finite slope and a finite intercept$"):
        Calibration(slope=slope, intercept=intercept)
