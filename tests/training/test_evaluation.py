"""What an evaluation of a few rows holds, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.schema import Protection
from monitoring.measures import Estimate, Group, ImpactRatio, Ranking, auc_estimate, fit_line, normal_estimate
from scoring.policy import DecisionPolicy, PointScale, RiskLevel
from tests.features.examples import columns
from training.evaluation import (
    Evaluation,
    _confusion,
    decision_policy,
    evaluate,
    observe,
    observe_bands,
    resample,
    thresholds,
)
from training.gates import GroupPerformance, compared, group_lines, group_performances, members, most_approved
from training.settings import EvaluationSettings, TrainingSettings

SETTINGS = EvaluationSettings(confidence=0.9, resamples=50, calibration_bins=4, f_beta=2.0, lift_share=0.2)
POLICY = DecisionPolicy(0.4, 0.3, 0.5, (0.1, 0.35, 0.6), 10, 1, PointScale(600, 50, 20))
TARGET = np.array([0, 0, 1, 0, 1, 1, 0, 0, 1, 0])
PROBABILITY = np.array([0.05, 0.15, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.7, 0.08])


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(TARGET, PROBABILITY, POLICY, SETTINGS, seed=3)


def test_rows_defaults_and_the_confusion_are_counted(evaluation):
    assert (evaluation.rows, evaluation.defaults, evaluation.confidence) == (10, 4, 0.9)
    assert evaluation.confusion == (4, 2, 2, 2)  # true negatives, false positives, false negatives, true positives


def test_gini_is_twice_the_auc_less_one_and_so_are_its_ends(evaluation):
    area = auc_estimate(TARGET, PROBABILITY, 0.9)
    assert evaluation["auc"] == area
    gini = evaluation["gini"]
    assert (gini.value, gini.low, gini.high) == (2 * area.value - 1, 2 * area.low - 1, 2 * area.high - 1)


def test_the_calibration_line_is_fitted_on_the_log_odds(evaluation):
    line = fit_line(np.log(PROBABILITY / (1 - PROBABILITY)), TARGET)
    for name, value, error in (
        ("calibration_slope", line.slope, line.slope_error),
        ("calibration_intercept", line.intercept, line.intercept_error),
    ):
        expected, found = normal_estimate(value, error, 0.9), evaluation[name]
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_other_intervals_are_the_percentiles_of_the_resampled_statistics(evaluation):
    random, ranking = np.random.default_rng(3), Ranking.of(TARGET, PROBABILITY, 4)
    drawn = [ranking.statistics(resample(ranking.target, random), POLICY, SETTINGS) for _ in range(50)]
    measured = ranking.statistics(np.ones(10), POLICY, SETTINGS)
    for name, value in measured.items():
        low, high = np.quantile([statistics[name] for statistics in drawn], [0.05, 0.95])
        assert evaluation[name] == Estimate(value, pytest.approx(low), pytest.approx(high))


def test_each_outcome_is_resampled_as_often_as_it_occurs_and_any_row_may_be_drawn():
    random = np.random.default_rng(1)
    drawn = np.array([resample(TARGET, random) for _ in range(2_000)])
    assert (drawn[:, TARGET == 1].sum(axis=1) == 4).all()
    assert (drawn[:, TARGET == 0].sum(axis=1) == 6).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(10), abs=0.1)  # the 99.9 % range is +-0.07


def test_the_levels_have_their_rows_from_best_to_worst(evaluation):
    found = [(level.level, level.rows, level.mean_probability, level.default_rate.value) for level in evaluation.levels]
    assert found == [
        (RiskLevel.LOW, 2, pytest.approx(0.065), 0.0),
        (RiskLevel.MEDIUM, 3, pytest.approx(0.65 / 3), 1 / 3),
        (RiskLevel.HIGH, 4, pytest.approx(0.425), 0.5),
        (RiskLevel.CRITICAL, 1, pytest.approx(0.7), 1.0),
    ]


def test_the_json_form_has_every_part(evaluation):
    content = evaluation.to_dict()
    assert list(content) == ["rows", "defaults", "confidence", "estimates", "levels", "thresholds", "confusion"]
    assert content["estimates"]["auc"] == {
        "value": evaluation["auc"].value,
        "low": evaluation["auc"].low,
        "high": evaluation["auc"].high,
    }


def test_thresholds_of_ten_rows():
    policy, cheapest, best = thresholds(TARGET, PROBABILITY, POLICY, 2.0)
    assert (policy.cutoff, policy.cost_per_applicant, policy.f_beta) == (0.4, pytest.approx(2.2), pytest.approx(0.5))
    # declining from 0.2 on misses no default and refuses three good rows
    assert (cheapest.cutoff, cheapest.cost_per_applicant) == (0.2, pytest.approx(0.3))
    assert (best.cutoff, best.f_beta) == (0.2, pytest.approx(20 / 23))


def test_a_cutoff_above_every_pd_declines_nobody():
    policy, _, _ = thresholds(np.array([0, 1]), np.array([0.1, 0.2]), POLICY, 2.0)
    assert (policy.cost_per_applicant, policy.f_beta) == (5.0, 0.0)


def test_a_policy_is_what_costs_and_bands_imply():
    content = TrainingSettings.load(Path("configs/training.yaml")).policy
    asked = content.model_copy(
        update={"cost_fn": 4.0, "cost_fp": 1.0, "refer_band": 0.25, "level_bounds": (0.1, 0.2, 0.5)}
    )
    policy = decision_policy(asked)
    assert (policy.cutoff, policy.refer_from, policy.refer_to) == pytest.approx((0.2, 0.15, 0.25))
    assert (policy.level_bounds, policy.cost_fn, policy.cost_fp) == ((0.1, 0.2, 0.5), 4.0, 1.0)
    assert asked.completeness is not None
    assert policy.completeness == asked.completeness.build()
    assert decision_policy(asked.model_copy(update={"completeness": None})).completeness is None
    wide = decision_policy(asked.model_copy(update={"cost_fn": 1.0, "cost_fp": 9.0}))
    assert (wide.cutoff, wide.refer_to) == (0.9, 1.0)


def test_bands_hold_the_same_number_of_rows():
    probability = np.array([0.8, 0.1, 0.3, 0.2, 0.6, 0.7])
    bands = observe_bands(np.array([1, 0, 0, 1, 0, 1]), probability, 3, 0.9)
    assert [(band.rows, band.mean_probability, band.default_rate.value) for band in bands] == [
        (2, pytest.approx(0.15), 0.5),
        (2, pytest.approx(0.45), 0.0),
        (2, pytest.approx(0.75), 1.0),
    ]


def test_an_observation_is_of_its_members_only():
    found = observe(np.array([1, 0, 1]), np.array([0.2, 0.4, 0.9]), np.array([True, True, False]), 0.9)
    assert (found.rows, found.mean_probability, found.default_rate.value) == (2, pytest.approx(0.3), 0.5)


BANDS = Protection(attribute="age", bands=(30.0, 62.0))
AGE = Protection(attribute="age", bands=(30.0, 62.0), elderly=62.0)


def of(name: str, rows: int, approved: int) -> Group:
    return Group("age", name, rows, approved)


def test_the_group_approved_most_has_enough_rows():
    groups = [of("a", 10, 5), of("b", 9, 9), of("c", 11, 6)]
    assert most_approved(groups, 10) == groups[2]
    assert most_approved(groups, 9) == groups[1]
    assert most_approved(groups, 12) is None


def test_a_ratio_needs_two_groups_with_enough_rows():
    low, high, small = of("a", 10, 4), of("b", 10, 8), of("c", 9, 9)
    assert [one.ratio for one in compared([high, low, small], BANDS, 10)] == [ImpactRatio(low, high)]
    assert [one.ratio for one in compared([high, small], BANDS, 10)] == [None]


def test_the_elderly_are_held_against_everybody_younger():
    groups = [of("under 30", 6, 3), of("30 to under 62", 4, 3), of("62 and over", 10, 5)]
    assert elderly_ratio(groups, 10) == ImpactRatio(groups[2], of("under 62", 10, 6))
    assert elderly_ratio(groups, 11) is None
    assert elderly_ratio([*groups[:2], of("62 and over", 9, 5)], 10) is None
    assert elderly_ratio([groups[0], of("30 to under 62", 0, 0), groups[2]], 7) is None


def elderly_ratio(groups: list[Group], min_rows: int) -> ImpactRatio | None:
    _, elderly = compared(groups, AGE, min_rows)
    return elderly.ratio


def test_a_band_begins_with_the_birthday():
    days = [-(40 * 365.25), -(40 * 365.25) + 1, -(62 * 365.25) - 0.5]  # a year has 365.25 days
    rows = columns(*({"DAYS_BIRTH": day} for day in days))
    assert {name: marked.tolist() for name, marked in members(rows, "age").items()} == {
        "under 25": [False, False, False],
        "25 to under 40": [False, True, False],
        "40 to under 62": [True, False, False],
        "62 and over": [False, False, True],
    }


def test_a_group_is_one_line():
    assert list(group_lines([of("62 and over", 8, 2)])) == ["age 62 and over  8 applications  approved 25.0%"]


def test_a_small_group_and_one_with_few_outcomes_are_told_apart():
    marked = {"a": np.arange(10) < 6, "b": np.arange(10) >= 6}
    approved = PROBABILITY < 0.3

    def performances(min_rows: int, min_outcomes: int):
        return group_performances(
            "sex",
            marked,
            target=TARGET,
            probability=PROBABILITY,
            approved=approved,
            min_rows=min_rows,
            min_outcomes=min_outcomes,
            confidence=0.9,
        )

    first, second = performances(4, 3)
    assert first.impact_ratio == ImpactRatio(first.group, first.group)
    assert second.impact_ratio == ImpactRatio(second.group, first.group)
    assert (first.auc, second.auc) == (auc_estimate(TARGET[:6], PROBABILITY[:6], 0.9), None)
    assert second.observed == observe(TARGET, PROBABILITY, marked["b"], 0.9)
    assert [found.auc for found in performances(4, 4)] == [None, None]
    first, second = performances(5, 3)
    assert second == GroupPerformance(second.group, None, None, None)
    assert performances(7, 3)[0].impact_ratio is None


def test_a_confusion_is_counted_by_outcome_and_then_by_prediction():
    target, prediction = np.repeat([0, 0, 1, 1], [4, 3, 2, 1]), np.repeat([0, 1, 0, 1], [4, 3, 2, 1])
    assert _confusion(target, prediction) == (4, 3, 2, 1)
    assert _confusion(np.zeros(5, dtype=int), np.zeros(5, dtype=int)) == (5, 0, 0, 0)
