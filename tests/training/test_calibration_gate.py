"""The gate of the calibration error judges what is beyond chance, on few rows and on many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitoring.measures import Ranking
from training.evaluation import Evaluation, decision_policy, evaluate
from training.gates import Gate, evaluation_gates
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings() -> TrainingSettings:
    return TrainingSettings.load(ROOT / "configs" / "training.yaml")


def pds(rows: int, random: np.random.Generator) -> np.ndarray:
    """PDs with a mean of 0.3, as spread as those of a model with an AUC of about 0.75."""
    return random.beta(2.1, 4.9, rows)


def gate_of(
    settings: TrainingSettings, true: np.ndarray, stated: np.ndarray, random: np.random.Generator
) -> tuple[Gate, Evaluation]:
    target = (random.random(len(true)) < true).astype(np.int64)
    evaluation = evaluate(target, stated, decision_policy(settings.policy), settings.evaluation, seed=1)
    [gate] = [gate for gate in evaluation_gates(evaluation, settings.gates) if gate.name == "ECE"]
    return gate, evaluation


def test_right_pds_of_1000_rows_pass_in_95_of_100_draws(settings):
    random, limit = np.random.default_rng(5), settings.gates.max_ece
    beyond = []
    for _ in range(400):
        true = pds(1_000, random)
        target = (random.random(len(true)) < true).astype(np.int64)
        ranking = Ranking.of(target, true, settings.evaluation.calibration_bins)
        ece = dict(ranking._probability_statistics(np.ones(len(true))))["ece"]
        beyond.append(ece - ranking.chance_ece(50, random).mean())
    assert np.mean(np.array(beyond) <= limit) >= 0.95
    assert abs(np.mean(beyond)) < 0.002  # chance alone leaves nothing on average


def test_pds_that_are_off_by_3_points_fail_on_50000_rows(settings):
    random = np.random.default_rng(6)
    true = np.clip(pds(50_000, random), 0.05, 0.9)
    gate, _ = gate_of(settings, true, true + 0.03, random)
    assert not gate.passed


def test_the_figure_states_what_is_judged_and_what_chance_gives(settings):
    random = np.random.default_rng(7)
    true = pds(1_000, random)
    gate, evaluation = gate_of(settings, true, true, random)
    ece, chance = evaluation["ece"].value, evaluation["ece_by_chance"].value
    assert gate == Gate("ECE", f"{ece:.4f}, by chance {chance:.4f}", "at most 0.02 above chance", passed=True)
    assert 0.025 < chance < 0.04


def test_outcomes_that_are_certain_leave_nothing_to_chance():
    ranking = Ranking.of(np.array([0, 0, 1, 1]), np.array([0.0, 0.0, 1.0, 1.0]), 2)
    assert ranking.chance_ece(3, np.random.default_rng(0)).tolist() == [0.0, 0.0, 0.0]
