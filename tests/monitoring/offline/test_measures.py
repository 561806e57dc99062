from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from monitoring.measures import Ranking, auc, auc_difference, auc_estimate, f_score, share_estimate
from scoring.policy import DecisionPolicy, PointScale
from training.evaluation import bayes_cutoff, thresholds
from training.settings import EvaluationSettings

SETTINGS = EvaluationSettings(confidence=0.95, resamples=20, calibration_bins=10, f_beta=3.2, lift_share=0.1)
POLICY = DecisionPolicy(0.25, 0.2, 0.3, (0.1, 0.2, 0.4), 10, 1, PointScale(600, 50, 20))
SHARES = st.integers(0, 20).map(lambda value: value / 20)


def sample(rows: int, seed: int = 3) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    probability = random.beta(1, 5, rows)
    return (random.random(rows) < probability).astype(np.int64), probability


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 1), SHARES), min_size=2, max_size=60).filter(
        lambda r: len({y for y, _ in r}) == 2
    )
)
def test_statistics_agree_with_scikit_learn_ties_included(rows: list[tuple[int, float]]) -> None:
    target, probability = np.array([y for y, _ in rows]), np.array([p for _, p in rows])
    found = Ranking.of(target, probability, 5).statistics(np.ones(len(rows)), POLICY, SETTINGS)
    predicted = probability >= POLICY.cutoff
    options = {"zero_division": 0.0}
    expected = {
        "average_precision": reference.average_precision_score(target, probability),
        "brier": np.mean((probability - target) ** 2),
        "precision": reference.precision_score(target, predicted, **options),
        "recall": reference.recall_score(target, predicted, **options),
        "f1": reference.f1_score(target, predicted, **options),
        "f_beta": reference.fbeta_score(target, predicted, beta=3.2, **options),
        "declined_share": predicted.mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert auc(target, probability) == pytest.approx(reference.roc_auc_score(target, probability))


def test_more_statistics_agree_with_scikit_learn() -> None:
    target, probability = sample(2_000)
    found = Ranking.of(target, probability, 10).statistics(np.ones(2_000), POLICY, SETTINGS)
    false_positive, true_positive, _ = reference.roc_curve(target, probability)
    assert found["log_loss"] == pytest.approx(reference.log_loss(target, probability))
    assert found["ks"] == pytest.approx(np.max(true_positive - false_positive))


def test_a_weight_is_as_good_as_a_repeated_row() -> None:
    target, probability = sample(200)
    weights = np.random.default_rng(5).integers(0, 4, 200)
    repeated = Ranking.of(np.repeat(target, weights), np.repeat(probability, weights), 1)
    once = Ranking.of(target, probability, 1)
    aligned = weights[np.argsort(-probability, kind="stable")].astype(float)
    assert once.statistics(aligned, POLICY, SETTINGS) == pytest.approx(
        repeated.statistics(np.ones(int(weights.sum())), POLICY, SETTINGS)
    )


def test_ece_is_the_mean_gap_between_predicted_and_observed() -> None:
    target = np.array([0, 1, 0, 0, 1, 1, 1, 1])
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6])
    found = Ranking.of(target, probability, 2).statistics(np.ones(8), POLICY, SETTINGS)
    assert found["ece"] == pytest.approx((abs(0.25 - 0.1) + abs(1.0 - 0.6)) / 2)


def test_lift_counts_the_defaults_among_the_riskiest_tenth() -> None:
    probability = np.linspace(1, 0.01, 100)
    target = np.zeros(100, dtype=np.int64)
    target[[0, 1, 50, 70]] = 1
    found = Ranking.of(target, probability, 10).statistics(np.ones(100), POLICY, SETTINGS)
    assert found["lift"] == pytest.approx(0.5 / 0.1)


def test_costs_count_missed_defaults_and_declined_good_applications() -> None:
    target, probability = np.array([1, 1, 0, 0]), np.array([0.9, 0.1, 0.8, 0.2])
    found = Ranking.of(target, probability, 2).statistics(np.ones(4), POLICY, SETTINGS)
    assert (found["cost_per_applicant"], found["cost_approve_all"]) == ((10 + 1) / 4, 20 / 4)
    assert found["cost_ratio"] == (11 / 4) / (2 / 4)


def test_the_interval_of_the_auc_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        target = (random.random(300) < 0.3).astype(np.int64)
        estimate = auc_estimate(target, random.normal(target.astype(float)), 0.9)
        covered += estimate.low <= 0.7602499 <= estimate.high
    assert 0.86 <= covered / 400 <= 0.94


def test_the_difference_of_two_rankings_is_paired() -> None:
    target, probability = sample(3_000)
    noisy = probability + np.random.default_rng(1).normal(0, 0.02, 3_000)
    difference = auc_difference(target, probability, noisy, 0.95)
    apart = auc_estimate(target, probability, 0.95)
    assert difference.value == pytest.approx(auc(target, probability) - auc(target, noisy))
    assert difference.high - difference.low < (apart.high - apart.low) / 3
    assert auc_difference(target, probability, probability, 0.95).high == 0.0


def test_wilson_interval() -> None:
    estimate = share_estimate(8, 10, 0.95)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)
    assert np.isnan(share_estimate(0, 0, 0.95).value)


@pytest.mark.parametrize(("fn", "fp", "cutoff"), [(10, 1, 1 / 11), (1, 1, 0.5), (1, 3, 0.75)])
def test_bayes_cutoff(fn: float, fp: float, cutoff: float) -> None:
    assert bayes_cutoff(fn, fp) == pytest.approx(cutoff)


@pytest.mark.slow
def test_no_cutoff_beats_the_one_a_search_finds() -> None:
    target, probability = sample(500)
    policy, cheapest, best = thresholds(target, probability, POLICY, 3.2)
    costs, scores = [], []
    for cutoff in [*probability, 2.0]:
        declined = probability >= cutoff
        missed, alarms = ((~declined) & (target == 1)).sum(), (declined & (target == 0)).sum()
        costs.append((10 * missed + alarms) / 500)
        scores.append(reference.fbeta_score(target, declined, beta=3.2, zero_division=0.0))
    declined = probability >= POLICY.cutoff
    expected = (10 * ((~declined) & (target == 1)).sum() + (declined & (target == 0)).sum()) / 500
    assert (policy.method, policy.cutoff, policy.cost_per_applicant) == ("bayes", 0.25, pytest.approx(expected))
    assert (cheapest.method, cheapest.cost_per_applicant) == ("grid_search", pytest.approx(min(costs)))
    assert (best.method, best.f_beta) == ("f_beta", pytest.approx(max(scores)))


def test_nothing_hit_is_an_f_score_of_zero() -> None:
    assert f_score(0, 0, 5, 3.2) == 0.0
