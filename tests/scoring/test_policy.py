from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scoring.errors import ArtefactError
from scoring.policy import DecisionKind, DecisionPolicy, PointScale, RiskLevel

SCALE = PointScale(base=600, odds=50, double=20)
POLICY = DecisionPolicy(
    cutoff=0.3, refer_from=0.2, refer_to=0.4, level_bounds=(0.1, 0.3, 0.6), cost_fn=10, cost_fp=1, scale=SCALE
)


def below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def above(value: float) -> float:
    return math.nextafter(value, math.inf)


@pytest.mark.parametrize(
    ("probability", "prediction"), [(0.0, 0), (below(0.3), 0), (0.3, 1), (above(0.3), 1), (1.0, 1)]
)
def test_default_is_predicted_from_the_cutoff_on(probability, prediction):
    predictions = POLICY.predictions(np.array([probability]))
    assert predictions.tolist() == [prediction]
    assert predictions.dtype == np.int64


@pytest.mark.parametrize(
    ("probability", "outcome"),
    [
        (0.0, DecisionKind.APPROVE),
        (below(0.2), DecisionKind.APPROVE),
        (0.2, DecisionKind.REFER),
        (0.3, DecisionKind.REFER),
        (below(0.4), DecisionKind.REFER),
        (0.4, DecisionKind.DECLINE),
        (1.0, DecisionKind.DECLINE),
    ],
)
def test_what_is_decided_at_the_edges_of_the_refer_band(probability, outcome):
    assert POLICY.outcomes(np.array([probability])).tolist() == [outcome]


@pytest.mark.parametrize(
    ("probability", "level"),
    [
        (0.0, RiskLevel.LOW),
        (below(0.1), RiskLevel.LOW),
        (0.1, RiskLevel.MEDIUM),
        (below(0.3), RiskLevel.MEDIUM),
        (0.3, RiskLevel.HIGH),
        (below(0.6), RiskLevel.HIGH),
        (0.6, RiskLevel.CRITICAL),
        (1.0, RiskLevel.CRITICAL),
    ],
)
def test_the_level_at_the_bounds(probability, level):
    assert POLICY.risk_levels(np.array([probability])).tolist() == [level]


def test_every_probability_is_judged_on_its_own():
    probabilities = np.array([0.5, 0.0, 0.3])
    assert POLICY.predictions(probabilities).tolist() == [1, 0, 1]
    assert POLICY.outcomes(probabilities).tolist() == ["decline", "approve", "refer"]
    assert POLICY.risk_levels(probabilities).tolist() == ["HIGH", "LOW", "HIGH"]


def test_without_a_refer_band_everything_is_approved_or_declined():
    policy = replace(POLICY, refer_from=0.3, refer_to=0.3)
    assert policy.outcomes(np.array([below(0.3), 0.3])).tolist() == ["approve", "decline"]


@pytest.mark.parametrize(
    "change",
    [
        {"refer_from": 0.0, "cutoff": 0.0, "refer_to": 0.0},
        {"refer_from": 1.0, "cutoff": 1.0, "refer_to": 1.0},
        {"refer_from": 0.3},
        {"refer_to": 0.3},
        {"level_bounds": (above(0.0), 0.5, below(1.0))},
    ],
    ids=str,
)
def test_a_policy_may_go_to_its_limits(change):
    replace(POLICY, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"refer_from": -0.01},
        {"refer_from": above(0.3)},
        {"refer_to": below(0.3)},
        {"refer_to": above(1.0)},
        {"cutoff": 0.41},
        {"cutoff": math.nan},
    ],
    ids=str,
)
def test_thresholds_that_are_not_in_order_are_refused(change):
    with pytest.raises(ArtefactError, match=r"^a policy needs 0 <= refer_from <= cutoff <= refer_to <= 1$"):
        replace(POLICY, **change)


@pytest.mark.parametrize(
    "bounds",
    [(0.0, 0.3, 0.6), (0.3, 0.3, 0.6), (0.1, 0.6, 0.6), (0.1, 0.3, 1.0), (0.6, 0.3, 0.1), (0.1, math.nan, 0.6)],
)
def test_levels_that_do_not_rise_are_refused(bounds):
    with pytest.raises(ArtefactError, match=r"^the bounds of the risk levels must rise within \(0, 1\)$"):
        replace(POLICY, level_bounds=bounds)


@pytest.mark.parametrize(
    ("good_per_bad", "points"), [(50, 600), (100, 620), (200, 640), (25, 580), (12.5, 560), (1, 487), (1 / 50, 374)]
)
def test_points_are_600_at_50_to_1_and_20_more_when_the_odds_double(good_per_bad, points):
    scored = SCALE.points(-np.log([float(good_per_bad)]))
    assert scored.tolist() == [points]
    assert scored.dtype == np.int64


@pytest.mark.parametrize(
    ("half", "points"), [(0.5, 600), (1.5, 602), (2.5, 602), (-0.5, 600), (-1.5, 598), (0.5001, 601), (0.4999, 600)]
)
def test_half_a_point_goes_to_the_even_one(half, points):
    scale = PointScale(base=600, odds=1, double=math.log(2))  # one point for one unit of log-odds
    assert scale.points(np.array([-half])).tolist() == [points]


def test_another_scale_gives_other_points():
    scale = PointScale(base=500, odds=20, double=40)
    assert scale.points(-np.log([20.0, 40.0, 10.0])).tolist() == [500, 540, 460]


@pytest.mark.parametrize(
    "change", [{"odds": 0}, {"odds": -50}, {"double": 0}, {"double": -20}, {"base": math.nan}], ids=str
)
def test_a_scale_without_points_is_refused(change):
    with pytest.raises(ArtefactError, match="scale"):
        replace(SCALE, **change)
