"""Values and intervals by their definition: every pair is counted, every formula is a table of four counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.measures import (
    Estimate,
    Group,
    ImpactRatio,
    Ranking,
    auc_difference,
    auc_estimate,
    f_score,
    fit_line,
    grouped_auc_estimate,
    normal_estimate,
    share_estimate,
)
from scoring.policy import DecisionPolicy, PointScale
from training.settings import EvaluationSettings

Z_90, Z_95 = 1.6448536269514722, 1.959963984540054
TARGET = np.array([1, 0, 1, 0, 0, 1, 0, 0])
FIRST = np.array([0.9, 0.2, 0.6, 0.6, 0.1, 0.3, 0.4, 0.3])
SECOND = np.array([0.8, 0.3, 0.2, 0.4, 0.1, 0.7, 0.7, 0.2])


def pairs(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each default and each good row: 1 where the default has the higher score, a half for a tie."""
    difference = scores[TARGET == 1][:, np.newaxis] - scores[TARGET == 0]
    return (np.sign(difference) + 1) / 2


def variance(won: NDArray[np.float64]) -> float:
    """DeLong's variance of the mean of all pairs."""
    bad, good = won.shape
    return float(won.mean(axis=1).var(ddof=1) / bad + won.mean(axis=0).var(ddof=1) / good)


@pytest.mark.parametrize(("confidence", "z"), [(0.9, Z_90), (0.95, Z_95)])
def test_the_interval_of_an_auc_is_delongs(confidence, z):
    won = pairs(FIRST)
    half = z * math.sqrt(variance(won))
    found = auc_estimate(TARGET, FIRST, confidence)
    assert (found.value, found.low, found.high) == pytest.approx((won.mean(), won.mean() - half, won.mean() + half))


def test_the_interval_of_a_difference_is_that_of_the_paired_difference():
    won = pairs(FIRST) - pairs(SECOND)
    half = Z_95 * math.sqrt(variance(won))
    found = auc_difference(TARGET, FIRST, SECOND, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((won.mean(), won.mean() - half, won.mean() + half))


def test_groups_of_tied_rows_have_the_auc_of_the_rows():
    groups = np.unique(FIRST)
    bad, good = (np.array([float(((at == FIRST) & (y == TARGET)).sum()) for at in groups]) for y in (1, 0))
    expected, found = auc_estimate(TARGET, FIRST, 0.9), grouped_auc_estimate(bad, good, 0.9)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.parametrize(("bad", "good", "known"), [(1, 5, False), (5, 1, False), (2, 5, True), (5, 2, True)])
def test_an_interval_needs_two_rows_of_either_outcome(bad, good, known):
    found = grouped_auc_estimate(np.array([0.0, bad]), np.array([good, 0.0]), 0.9)
    assert [math.isnan(end) for end in (found.value, found.low, found.high)] == [not known] * 3


def test_a_normal_interval_is_so_many_errors_wide():
    found = normal_estimate(2.0, 3.0, 0.9)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0 - 3 * Z_90, 2.0 + 3 * Z_90))
    assert str(found) == "2.0000 [-2.9346, 6.9346]"


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 7), (1, 1)])
def test_wilsons_interval_holds_the_shares_that_a_test_would_not_refuse(hits, trials):
    found = share_estimate(hits, trials, 0.95)
    assert found.value == hits / trials
    for end in (found.low, found.high):
        assert abs(hits / trials - end) == pytest.approx(Z_95 * math.sqrt(end * (1 - end) / trials), abs=1e-7)
    assert 0 <= found.low <= found.high <= 1


def test_no_trials_have_no_share():
    assert np.isnan([*vars_of(share_estimate(0, 0, 0.95))]).tolist() == [True, True, True]


def vars_of(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def test_the_line_over_two_values_is_that_of_their_odds():
    # 3 of 10 rows at 0 and 8 of 12 rows at 1 defaulted: the intercept is a log-odds, the slope a log odds ratio
    values = np.repeat([0.0, 0.0, 1.0, 1.0], [3, 7, 8, 4])
    target = np.repeat([1, 0, 1, 0], [3, 7, 8, 4])
    line = fit_line(values, target)
    assert line.intercept == pytest.approx(math.log(3 / 7), abs=1e-6)
    assert line.slope == pytest.approx(math.log(8 / 4) - math.log(3 / 7), abs=1e-6)
    assert line.intercept_error == pytest.approx(math.sqrt(1 / 3 + 1 / 7), rel=1e-5)
    assert line.slope_error == pytest.approx(math.sqrt(1 / 3 + 1 / 7 + 1 / 8 + 1 / 4), rel=1e-5)


def test_a_row_of_the_line_counts_as_often_as_its_weight():
    values, target = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1, 0, 1, 0])
    weights = np.array([3.0, 7.0, 8.0, 4.0])
    repeated = fit_line(np.repeat(values, [3, 7, 8, 4]), np.repeat(target, [3, 7, 8, 4]))
    weighted = fit_line(values, target, weights)
    for name in ("slope", "intercept", "slope_error", "intercept_error"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-5)


def test_values_that_are_all_the_same_have_no_line():
    line = fit_line(np.full(4, 0.5), np.array([0, 1, 0, 1]))
    assert np.isnan([line.slope, line.intercept, line.slope_error, line.intercept_error]).tolist() == [True] * 4


def group(rows: int, approved: int) -> Group:
    return Group("sex", "F", rows, approved)


def test_a_group_counts_its_members_and_those_of_them_that_are_approved():
    members, approved = np.array([True, True, False, True]), np.array([True, False, True, False])
    found = Group.of("sex", "F", members, approved)
    assert found == group(3, 1)
    assert (found.share, str(found)) == (1 / 3, "sex F")
    assert math.isnan(group(0, 0).share)


@pytest.mark.parametrize(
    ("of", "to", "ratio"),
    [((10, 2), (20, 8), 0.5), ((10, 0), (20, 8), 0.0), ((10, 0), (20, 0), 1.0), ((10, 1), (20, 0), math.inf)],
)
def test_the_ratio_of_two_shares(of, to, ratio):
    assert ImpactRatio(group(*of), group(*to)).value == ratio


def test_the_interval_of_a_ratio_is_katzs():
    found = ImpactRatio(group(10, 2), group(20, 8)).estimate(0.9)
    factor = math.exp(Z_90 * math.sqrt(1 / 2 - 1 / 10 + 1 / 8 - 1 / 20))
    assert vars_of(found) == pytest.approx((0.5, 0.5 / factor, 0.5 * factor))


@pytest.mark.parametrize(("of", "to"), [((10, 0), (20, 8)), ((10, 2), (20, 0)), ((10, 0), (20, 0))])
def test_a_ratio_without_approvals_has_no_interval(of, to):
    ratio = ImpactRatio(group(*of), group(*to))
    found = ratio.estimate(0.9)
    assert found.value == ratio.value
    assert np.isnan([found.low, found.high]).all()


def test_the_statistics_of_six_rows():
    settings = EvaluationSettings(confidence=0.95, resamples=20, calibration_bins=2, f_beta=2.0, lift_share=0.5)
    policy = DecisionPolicy(0.4, 0.3, 0.5, (0.1, 0.2, 0.4), 10, 1, PointScale(600, 50, 20))
    target, probability = np.array([0, 1, 0, 1, 1, 0]), np.array([0.1, 0.2, 0.3, 0.4, 0.8, 0.8])
    found = Ranking.of(target, probability, 2).statistics(np.ones(6), policy, settings)
    assert found == pytest.approx(
        {
            "brier": (0.01 + 0.64 + 0.09 + 0.36 + 0.04 + 0.64) / 6,
            "log_loss": -math.log(0.9 * 0.2 * 0.7 * 0.4 * 0.8 * 0.2) / 6,
            "ece": (abs(0.6 - 1) + abs(2.0 - 2)) / 6,
            "ks": 1 / 3,
            "average_precision": 1 / 3 * 1 / 2 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5,
            "lift": 2 / 3 / 0.5,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "f_beta": 2 / 3,
            "declined_share": 0.5,
            "cost_per_applicant": (10 * 1 + 1 * 1) / 6,
            "cost_approve_all": 30 / 6,
            "cost_ratio": 11 / 3,
        }
    )


def test_the_lift_of_a_share_within_tied_rows_is_interpolated():
    settings = EvaluationSettings(confidence=0.95, resamples=20, calibration_bins=2, f_beta=1.0, lift_share=0.1)
    policy = DecisionPolicy(0.4, 0.3, 0.5, (0.1, 0.2, 0.4), 10, 1, PointScale(600, 50, 20))
    target, probability = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), np.repeat([0.9, 0.1], [4, 6])
    # a tenth of the rows is a quarter of the four that are tied, which hold every default
    assert Ranking.of(target, probability, 1).statistics(np.ones(10), policy, settings)["lift"] == pytest.approx(2.5)


def test_a_certainty_that_was_wrong_costs_a_finite_loss():
    settings = EvaluationSettings(confidence=0.95, resamples=20, calibration_bins=2, f_beta=1.0, lift_share=0.5)
    policy = DecisionPolicy(0.4, 0.3, 0.5, (0.1, 0.2, 0.4), 10, 1, PointScale(600, 50, 20))
    found = Ranking.of(np.array([1, 0]), np.array([0.0, 0.5]), 1).statistics(np.ones(2), policy, settings)
    assert found["log_loss"] == pytest.approx((708.3964185322641 + math.log(2)) / 2)


@pytest.mark.parametrize(
    ("hits", "false_alarms", "missed", "beta", "score"),
    [(2, 1, 3, 1.0, 4 / 8), (2, 1, 3, 2.0, 10 / (10 + 12 + 1)), (0, 0, 0, 1.0, 0.0), (3, 0, 0, 2.0, 1.0)],
)
def test_f_beta_from_counts(hits, false_alarms, missed, beta, score):
    assert f_score(hits, false_alarms, missed, beta) == pytest.approx(score)


def test_no_share_is_above_one_whatever_the_rounding() -> None:
    assert max(share_estimate(trials, trials, 0.95).high for trials in range(1, 1000)) == 1.0
