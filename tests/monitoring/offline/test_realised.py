"""Performance and fairness of a handful of decisions, exactly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitoring.fairness import GroupedDecisions, screen, screening_lines
from monitoring.measures import (
    Estimate,
    Group,
    ImpactRatio,
    Ranking,
    auc_estimate,
    fit_line,
    normal_estimate,
    share_estimate,
)
from monitoring.outcomes import Matched
from monitoring.performance import _reasons
from monitoring.realised import Cohort, Realised, estimate, expected_auc, realise
from monitoring.settings import FairnessSettings, PerformanceSettings
from scoring.policy import DecisionKind, DecisionPolicy, PointScale

SETTINGS = PerformanceSettings(
    min_auc=0.6, confidence=0.9, resamples=200, groups=100, calibration_bins=4, f_beta=2.0, lift_share=0.2, seed=5
)
POLICY = DecisionPolicy(0.4, 0.3, 0.5, (0.1, 0.35, 0.6), 10, 1, PointScale(600, 50, 20))
PROBABILITY = np.tile([0.3, 0.05, 0.15, 0.7, 0.35, 0.4, 0.45, 0.2], 25)
OUTCOME = np.tile(np.array([0, 0, 0, 1, 1, 0, 1, 1], dtype=np.int8), 25)
MONTH = np.tile(np.array([671, 670, 670, 671, 671, 670, 670, 671], dtype=np.int32), 25)  # November, December 2025
DECISION = np.tile(np.array([0, 0, 0, 2, 1, 1, 1, 0], dtype=np.int8), 25)


def matched(**changed: Any) -> Matched:
    values = {
        "outcome": OUTCOME,
        "probability": PROBABILITY,
        "month": MONTH,
        "decision": DECISION,
        "explored": np.zeros(len(DECISION), dtype=np.bool_),
        "decisions": np.array([125, 100, 75]),
        "unmatched": 100,
        "repeated": 0,
        "unknown": 0,
    }
    return Matched(**values | changed)


@pytest.fixture(scope="module")
def realised() -> Realised:
    return realise(matched(), POLICY, SETTINGS)


def ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def test_rows_defaults_and_coverage(realised):
    assert (realised.rows, realised.defaults) == (200, 100)
    assert [(each.decision, each.rows, each.known) for each in realised.coverage] == [
        (DecisionKind.APPROVE, 125, 100),
        (DecisionKind.REFER, 100, 75),
        (DecisionKind.DECLINE, 75, 25),
    ]


def test_discrimination_is_that_of_the_rows(realised):
    area = auc_estimate(OUTCOME.astype(np.int64), PROBABILITY, 0.9)
    assert ends(realised.estimates["auc"]) == pytest.approx(ends(area))
    assert ends(realised.estimates["gini"]) == pytest.approx([2 * end - 1 for end in ends(area)])


def test_the_calibration_line_is_that_of_the_rows(realised):
    line = fit_line(np.log(PROBABILITY / (1 - PROBABILITY)), OUTCOME.astype(np.int64))
    slope = normal_estimate(line.slope, line.slope_error, 0.9)
    intercept = normal_estimate(line.intercept, line.intercept_error, 0.9)
    assert ends(realised.estimates["calibration_slope"]) == pytest.approx(ends(slope), rel=1e-4)
    assert ends(realised.estimates["calibration_intercept"]) == pytest.approx(ends(intercept), rel=1e-4)


def test_the_other_statistics_are_those_of_the_rows_within_their_intervals(realised):
    ranking = Ranking.of(OUTCOME.astype(np.int64), PROBABILITY, 4)
    expected = ranking.statistics(np.ones(200), POLICY, SETTINGS)
    for name in ("ks", "brier", "ece", "cost_per_applicant", "cost_ratio", "declined_share"):
        found = realised.estimates[name]
        assert found.value == pytest.approx(expected[name])
        assert found.low < found.high
    assert realised.estimates["declined_share"].low < 3 / 8 < realised.estimates["declined_share"].high
    assert set(realised.estimates) == {
        "auc", "gini", "calibration_slope", "calibration_intercept", "ks", "brier", "ece", "cost_per_applicant",
        "cost_ratio", "declined_share",
    }  # fmt: skip


def test_the_bootstrap_draws_every_group_by_a_poisson_count(realised):
    falling = np.sort(np.unique(PROBABILITY))[::-1]
    target = np.array([OUTCOME[each == PROBABILITY][0] for each in falling], dtype=np.int64)
    ranking, random = Ranking.of(target, falling, 4), np.random.default_rng(5)
    drawn = [ranking.statistics(random.poisson(np.full(8, 25.0)).astype(float), POLICY, SETTINGS) for _ in range(200)]
    for name in ("brier", "ks", "declined_share"):
        low, high = np.quantile([each[name] for each in drawn], [0.05, 0.95])
        assert ends(realised.estimates[name])[1:] == pytest.approx((low, high))


@pytest.mark.parametrize("rare", [0, 1])
def test_a_draw_without_one_of_the_outcomes_is_drawn_again(rare):
    """Of one default alone every third draw has none."""
    outcome = np.full(200, 1 - rare, dtype=np.int8)
    outcome[7] = rare
    found = realise(matched(outcome=outcome), POLICY, SETTINGS)
    for name in ("ks", "brier", "ece", "cost_per_applicant", "cost_ratio", "declined_share"):
        low, high = ends(found.estimates[name])[1:]
        assert math.isfinite(low)
        assert low < high < math.inf


def test_parts_are_levels_months_and_bins(realised):
    assert [(part.name, part.rows, part.default_rate.value) for part in realised.levels] == [
        ("LOW", 25, 0.0),
        ("MEDIUM", 75, 1 / 3),
        ("HIGH", 75, 2 / 3),
        ("CRITICAL", 25, 1.0),
    ]
    assert [(part.name, part.rows, part.default_rate.value) for part in realised.months] == [
        ("2025-11", 100, 0.25),
        ("2025-12", 100, 0.75),
    ]
    assert [(part.name, part.rows, part.mean_probability) for part in realised.bins] == [
        ("1", 50, pytest.approx(0.1)),
        ("2", 50, pytest.approx(0.25)),
        ("3", 50, pytest.approx(0.375)),
        ("4", 50, pytest.approx(0.575)),
    ]
    december = MONTH == 671
    area = auc_estimate(OUTCOME[december].astype(np.int64), PROBABILITY[december], 0.9)
    assert ends(realised.months[1].auc) == pytest.approx(ends(area))
    assert ends(realised.months[1].default_rate) == ends(share_estimate(75, 100, 0.9))
    assert realised.months[1].mean_probability == pytest.approx((0.3 + 0.7 + 0.35 + 0.2) / 4)


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_outcome_alone_has_no_ranking(outcome):
    found = realise(matched(outcome=np.full(200, outcome, dtype=np.int8)), POLICY, SETTINGS)
    assert found.defaults == 200 * outcome
    assert all(math.isnan(each.value) for each in found.estimates.values())
    assert len(found.estimates) == 10


@pytest.mark.parametrize(
    ("known", "of", "accepted_only"),
    [([950, 0, 400], [1000, 0, 1000], True), ([950, 0, 500], [1000, 0, 1000], False), ([18, 0, 7], [20, 0, 20], False)],
)
def test_outcomes_are_of_the_accepted_where_those_of_the_declined_are_beyond_doubt_half_as_many(
    known, of, accepted_only
):
    decision = np.repeat(np.arange(3, dtype=np.int8), known)
    rows = len(decision)
    found = realise(
        matched(
            outcome=(np.arange(rows) % 2).astype(np.int8),
            probability=np.full(rows, 0.3),
            month=np.full(rows, 671, dtype=np.int32),
            decision=decision,
            explored=np.zeros(rows, dtype=np.bool_),
            decisions=np.array(of),
        ),
        POLICY,
        SETTINGS,
    )
    assert found.accepted_only is accepted_only


@pytest.mark.parametrize(
    ("high", "accepted_only", "implied", "reasons"),
    [
        (0.6, False, 0.9, []),
        (0.59, False, 0.5, ["AUC {} is below 0.6"]),
        (0.59, True, 0.59, []),
        (0.59, True, 0.591, ["AUC {} of the accepted is below 0.6 and below 0.5910, which their PDs imply"]),
        (0.6, True, 0.9, []),
    ],
)
def test_a_low_auc_of_the_accepted_must_be_lower_than_their_pds_imply(realised, high, accepted_only, implied, reasons):
    auc = Estimate(0.55, 0.5, high)
    found = replace(realised, estimates={"auc": auc}, accepted_only=accepted_only, expected_auc=implied)
    assert _reasons(found, SETTINGS) == [reason.format(auc) for reason in reasons]


def exact_auc(probabilities: list[float]) -> float:
    """Right pairs expected over pairs expected, from every pair of two different decisions."""
    right = pairs = 0.0
    for a, b in itertools.permutations(range(len(probabilities)), 2):
        p, q = probabilities[a], probabilities[b]
        weight = p * (1 - q)
        right += weight * (1.0 if p > q else 0.5 if p == q else 0.0)
        pairs += weight
    return right / pairs


@pytest.mark.parametrize("probabilities", [[0.1, 0.5], [0.2, 0.2, 0.7], [0.05, 0.3, 0.3, 0.3, 0.9]])
def test_the_expected_auc_counts_every_pair_of_two_decisions(probabilities):
    cohort = Cohort.of(np.array(probabilities), None, 100)
    assert expected_auc(cohort) == pytest.approx(exact_auc(probabilities))
    assert math.isnan(expected_auc(Cohort.of(np.array([0.3]), None, 100)))


def test_an_estimate_says_what_chance_alone_gives():
    random = np.random.default_rng(2)
    probability = random.beta(1, 4, 400).round(3)
    found = estimate(probability, SETTINGS)
    assert found.rows == 400
    error = math.sqrt(float((probability * (1 - probability)).sum())) / 400
    assert ends(found.default_rate) == pytest.approx(
        ends(normal_estimate(float(probability.mean()), error, 0.9)), rel=1e-3
    )
    assert found.auc.value == pytest.approx(exact_auc(probability.tolist()), abs=1e-3)
    drawn = []
    for _ in range(300):
        outcome = (random.random(400) < probability).astype(np.int64)
        drawn.append(auc_estimate(outcome, probability, 0.9).value)
    low, high = np.quantile(drawn, [0.05, 0.95])
    assert (found.auc.low, found.auc.high) == pytest.approx((low, high), abs=0.01)


def test_a_cohort_groups_equal_pds_and_keeps_their_defaults():
    cohort = Cohort.of(np.array([0.3, 0.1, 0.3, 0.2]), np.array([1, 0, 0, 1], dtype=np.int8), 100)
    assert cohort.probability == pytest.approx([0.1, 0.2, 0.3])
    assert (cohort.rows.tolist(), cohort.bad.tolist(), cohort.good.tolist()) == ([1, 1, 2], [0, 1, 1], [1, 0, 1])
    assert cohort.expected.bad == pytest.approx([0.1, 0.2, 0.6])


def test_more_pds_than_groups_are_grouped_by_quantile():
    cohort = Cohort.of(np.arange(10) / 10, None, 5)
    assert cohort.rows.tolist() == [2, 2, 2, 2, 2]
    assert cohort.probability == pytest.approx([0.05, 0.25, 0.45, 0.65, 0.85])
    assert cohort.bad.tolist() == [0.0] * 5
    tied = Cohort.of(np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.3]), None, 2)
    assert tied.rows.tolist() == [1, 5]  # equal PDs stay together


FAIRNESS = FairnessSettings(confidence=0.9, min_rows=50, min_impact_ratio=0.8)


def decided(*groups: tuple[str, int, int], outcome: int = -1) -> GroupedDecisions:
    """Groups by name, rows and approvals."""
    names = np.repeat([name for name, _, _ in groups], [rows for _, rows, _ in groups]).astype(object)
    approved = np.concatenate([np.arange(rows) < chosen for _, rows, chosen in groups]).astype(np.int8)
    return GroupedDecisions(
        {"sex": names}, approved, 1 - approved, np.full(len(names), 0.2), np.full(len(names), outcome, np.int8), 0
    )


def test_a_group_is_held_against_the_one_approved_most_and_large_enough():
    (screening,) = screen(decided(("F", 100, 80), ("M", 100, 60), ("X", 49, 49)), FAIRNESS)
    women, men, others = screening.groups
    assert [(group.name, group.rows, group.approved) for group in screening.groups] == [
        ("F", 100, 80),
        ("M", 100, 60),
        ("X", 49, 49),
    ]
    assert (women.impact, others.impact) == (None, None)
    assert men.impact == ImpactRatio(Group("sex", "M", 100, 60), Group("sex", "F", 100, 80)).estimate(0.9)
    assert ends(men.selection) == ends(share_estimate(60, 100, 0.9))
    assert (men.known, men.true_positive, men.default_rate, men.mean_probability) == (0, None, None, None)
    assert (screening.true_positive_gap, screening.false_positive_gap) == (None, None)


def test_groups_that_are_all_too_small_are_said_to_be_not_screened():
    few = screen(decided(("F", 100, 80), ("M", 49, 1)), FAIRNESS)
    enough = screen(decided(("F", 100, 80), ("M", 50, 40)), FAIRNESS)
    said = "  not screened: fewer than two groups have enough decisions"
    assert [list(screening_lines(found))[-1] == said for found in (few, enough)] == [True, False]


def test_a_group_of_just_enough_rows_is_judged():
    (screening,) = screen(decided(("F", 50, 40), ("M", 50, 20)), FAIRNESS)
    assert screening.groups[1].impact is not None


@pytest.mark.parametrize(
    ("rows", "approved", "signals"),
    [
        (1000, 450, ("sex M: approved 0.56 times as often as F",)),
        (1000, 700, ()),
        (60, 44, ()),  # 0.92, and what is below 0.8 may be chance
        (50, 30, ()),  # 0.75, below four fifths by its value, not by its whole interval
    ],
)
def test_a_group_is_signalled_where_its_whole_interval_is_low(rows, approved, signals):
    (screening,) = screen(decided(("F", 1000, 800), ("M", rows, approved)), FAIRNESS)
    assert screening.signals == signals


def test_errors_are_counted_among_known_outcomes():
    names = np.array(["F"] * 60 + ["M"] * 60, dtype=object)
    outcome = np.array([1] * 10 + [0] * 40 + [-1] * 10 + [1] * 20 + [0] * 30 + [-1] * 10, dtype=np.int8)
    predicted = np.zeros(120, dtype=np.int8)
    predicted[:5] = predicted[10:14] = 1  # of women 5 of 10 defaults and 4 of 40 good
    predicted[60:75] = predicted[80:89] = 1  # of men 15 of 20 defaults and 9 of 30 good
    probability = np.linspace(0.1, 0.7, 120)
    (screening,) = screen(GroupedDecisions({"sex": names}, 1 - predicted, predicted, probability, outcome, 0), FAIRNESS)
    women, men = screening.groups
    assert (women.known, women.defaults, men.known, men.defaults) == (50, 10, 50, 20)
    assert ends(women.true_positive) == ends(share_estimate(5, 10, 0.9))
    assert ends(women.false_positive) == ends(share_estimate(4, 40, 0.9))
    assert ends(men.true_positive) == ends(share_estimate(15, 20, 0.9))
    assert ends(men.false_positive) == ends(share_estimate(9, 30, 0.9))
    assert ends(men.default_rate) == ends(share_estimate(20, 50, 0.9))
    assert women.mean_probability == pytest.approx(probability[:50].mean())
    assert (screening.true_positive_gap, screening.false_positive_gap) == pytest.approx((0.25, 0.2))


def test_groups_too_small_have_no_gap():
    (screening,) = screen(decided(("F", 100, 80), ("M", 49, 20), outcome=1), FAIRNESS)
    assert (screening.true_positive_gap, screening.false_positive_gap) == (None, None)
