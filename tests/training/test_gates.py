"""Gates, and the figures that they judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.transformer import Columns
from monitoring.measures import Estimate, Group, ImpactRatio, auc_difference
from scoring.artefact import Artefact
from scoring.policy import DecisionKind, DecisionPolicy, PointScale
from scoring.reasons import ReasonMethod, ReasonReference
from scoring.scorer import Scorer, Scores, with_conformance
from tests.features.examples import columns
from tests.home_credit import APPLICATION, PORTFOLIO
from training import gates
from training.dataset import load_dataset
from training.gates import (
    Comparison,
    Gate,
    GroupComparison,
    ReasonChanges,
    compare,
    comparison_gates,
    evaluation_gates,
    fairness_gates,
    latency_gate,
    parity_gate,
    reason_changes,
    source_gate,
)
from training.run import Delivered
from training.settings import ApprovalSettings, GateSettings, LatencySettings, ReasonLimits

POLICY = DecisionPolicy(
    cutoff=0.5,
    refer_from=0.5,
    refer_to=0.5,
    level_bounds=(0.2, 0.4, 0.6),
    cost_fn=10,
    cost_fp=1,
    scale=PointScale(base=600, odds=50, double=20),
)


def limits(**changed: Any) -> GateSettings:
    values = {"min_auc": 0.5, "max_ece": 1.0, "max_cost_ratio": 2.0, "max_auc_loss": 0.01, "max_cost_increase": 0.02}
    fairness = ApprovalSettings(min_impact_ratio=0.8, min_rows=1)
    speed = LatencySettings(max_milliseconds=2.0, applications=3)
    told = ReasonLimits(max_changed=0.5, min_declines=1)
    return GateSettings(**{"fairness": fairness, **values, **changed}, reasons=told, latency=speed)


@pytest.mark.parametrize(
    ("changed", "passed"),
    [
        ({}, [True, True, True]),
        ({"min_auc": 0.99}, [False, True, True]),
        ({"max_ece": 1e-9}, [True, True, True]),  # the ECE is that of chance
        ({"max_cost_ratio": 0.01}, [True, True, False]),
    ],
)
def test_evaluation(delivered: Delivered, changed: dict[str, float], passed: list[bool]) -> None:
    gates = list(evaluation_gates(delivered.trained.evaluation, limits(**changed)))
    assert [gate.passed for gate in gates] == passed
    assert [gate.result for gate in gates] == ["passed" if ok else "FAILED" for ok in passed]


@pytest.mark.parametrize(
    ("auc_low", "cost_high", "passed"),
    [
        (-0.01, 0.02, [True, True]),
        (-0.0101, 0.02, [False, True]),
        (-0.01, 0.0201, [True, False]),
        (0.001, -0.001, [True, True]),
    ],
)
def test_a_challenger_may_be_worse_by_what_the_limits_allow(
    auc_low: float, cost_high: float, passed: list[bool]
) -> None:
    comparison = Comparison(auc=Estimate(0.0, auc_low, 1.0), cost=Estimate(0.0, -1.0, cost_high))
    assert [gate.passed for gate in comparison_gates(comparison, limits())] == passed


@pytest.mark.parametrize(
    ("challenger", "champion", "allowed", "passed"),
    [
        ("application_train.csv", "application_train.csv", False, True),
        ("application_train.csv", "generated: 100 clients, seed 1", False, True),
        ("generated: 100 clients, seed 1", "generated: 9 clients, seed 2", False, True),
        ("generated: 100 clients, seed 1", "application_train.csv", False, False),
        ("generated: 100 clients, seed 1", "application_train.csv", True, True),
    ],
)
def test_generated_data_does_not_replace_real_data(
    challenger: str, champion: str, *, allowed: bool, passed: bool
) -> None:
    assert source_gate(challenger, champion, generated_allowed=allowed).passed == passed


@pytest.mark.parametrize(("approved", "passed"), [(80, True), (79, False)])
def test_an_impact_ratio_below_the_limit_fails(approved: int, *, passed: bool) -> None:
    ratio = ImpactRatio(Group("sex", "M", 100, approved), Group("sex", "F", 100, 100))
    (gate,) = fairness_gates([GroupComparison("sex", ratio)], limits())
    assert (gate.figure, gate.passed) == (f"{approved / 100:.4f} M", passed)


def test_an_attribute_may_have_a_limit_of_its_own_but_not_the_elderly() -> None:
    young, old = Group("age", "under 25", 100, 8), Group("age", "62 and over", 100, 23)
    settings = limits(fairness=ApprovalSettings(min_impact_ratio=0.8, limits={"age": 0.3}, min_rows=1))
    found = fairness_gates(
        [
            GroupComparison("age", ImpactRatio(young, old)),
            GroupComparison("age", ImpactRatio(young, old), "62 and over against under 62"),
        ],
        settings,
    )
    assert list(found) == [
        Gate("adverse impact ratio by age (screening)", "0.3478 under 25", "at least 0.3", passed=True),
        Gate(
            "adverse impact ratio by age, 62 and over against under 62 (screening)",
            "0.3478",
            "at least 0.8",
            passed=False,
        ),
    ]


def test_an_impact_ratio_that_cannot_be_judged_says_so() -> None:
    (gate,) = fairness_gates([GroupComparison("sex", None)], limits())
    assert (gate.figure, gate.passed, gate.result) == ("too few rows", True, "not screened")


@pytest.mark.parametrize(("milliseconds", "passed"), [(2.0, True), (2.01, False)])
def test_a_slow_model_fails(milliseconds: float, *, passed: bool) -> None:
    assert latency_gate(milliseconds, limits()).passed == passed


@pytest.mark.parametrize(("differing", "passed"), [(0, True), (1, False)])
def test_one_differing_probability_fails(differing: int, *, passed: bool) -> None:
    assert parity_gate(differing, 1000).passed == passed


def test_costs_are_compared_row_by_row() -> None:
    """The challenger misses one default, 10, that the champion finds, and spares one good application, 1."""
    target = np.array([1, 1, 0, 0, 0])
    challenger, champion = np.array([0.9, 0.1, 0.1, 0.2, 0.3]), np.array([0.9, 0.8, 0.6, 0.2, 0.3])
    comparison = compare(target, challenger, champion, POLICY, 0.95)
    differences = np.array([0.0, 10.0, -1.0, 0.0, 0.0])
    assert comparison.cost.value == pytest.approx(9 / 5)
    half = comparison.cost.high - comparison.cost.value
    assert half == pytest.approx(1.959964 * differences.std(ddof=1) / 5**0.5)
    assert comparison.auc == auc_difference(target, challenger, champion, 0.95)


def test_a_model_differs_from_itself_by_nothing() -> None:
    target, probability = np.array([1, 0, 1, 0]), np.array([0.7, 0.6, 0.3, 0.1])
    nothing = Estimate(0.0, 0.0, 0.0)
    assert compare(target, probability, probability, POLICY, 0.95) == Comparison(nothing, nothing)


class Noting(Scorer):
    """Notes what it scores."""

    def __init__(self, artefact: Artefact) -> None:
        super().__init__(artefact)
        self.noted: list[Columns] = []

    def score(self, columns: Columns) -> Scores:
        self.noted.append(columns)
        return super().score(columns)


def test_the_latency_is_the_median_of_single_applications(
    delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, amounts = Noting(delivered.trained.artefact({})), [1e5, 2e5, 3e5, 4e5]
    ticks = iter([0.0, 0.001, 5.0, 5.002, 7.0, 7.009])
    monkeypatch.setattr(gates.time, "perf_counter", lambda: next(ticks))
    rows = columns(*({"AMT_CREDIT": amount} for amount in amounts))
    assert gates.median_milliseconds(scorer, rows, 3) == pytest.approx(2.0)
    place = APPLICATION.position["AMT_CREDIT"]
    assert [scored.numbers[:, place].tolist() for scored in scorer.noted] == [[1e5], [2e5], [3e5]]


def test_first_reasons_are_compared_where_both_models_decline(delivered: Delivered, generated: Path) -> None:
    dataset = load_dataset(generated, PORTFOLIO)
    artefact = delivered.trained.artefact({})
    own = Scorer(artefact)
    other = Scorer(with_conformance(replace(artefact, reasons=ReasonReference(ReasonMethod.PATH_DEPENDENT))))
    lenient = Scorer(with_conformance(replace(artefact, policy=replace(artefact.policy, refer_to=1.0))))
    silent = Scorer(with_conformance(replace(artefact, reasons=None)))
    declines = int((own.score(dataset.columns).decision == DecisionKind.DECLINE).sum())
    assert reason_changes(own, own, dataset.columns) == ReasonChanges(declines, 0)
    changed = reason_changes(own, other, dataset.columns)
    assert changed is not None
    assert changed.declines == declines
    assert 0 < changed.changed < declines
    assert reason_changes(own, lenient, dataset.columns) == ReasonChanges(0, 0)
    assert reason_changes(own, silent, dataset.columns) is None
