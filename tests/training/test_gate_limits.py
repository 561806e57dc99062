"""Each gate at its limit, and what it says; the groups that the fairness gates hold against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.measures import Estimate, Group, ImpactRatio
from scoring.policy import DecisionPolicy, PointScale
from tests.features.examples import columns
from tests.home_credit import APPLICATION
from training.evaluation import Evaluation
from training.gates import (
    Comparison,
    Gate,
    GroupComparison,
    ReasonChanges,
    Screening,
    _costs,
    comparability_gate,
    comparison_gates,
    evaluation_gates,
    fairness_gates,
    gate_lines,
    latency_gate,
    parity_gate,
    reason_gate,
    screen,
    source_gate,
)
from training.settings import ApprovalSettings, GateSettings, LatencySettings, ReasonLimits

POLICY = DecisionPolicy(0.5, 0.4, 0.6, (0.2, 0.4, 0.6), 10, 1, PointScale(600, 50, 20))


def limits(min_rows: int = 2, **changed: Any) -> GateSettings:
    values = {"min_auc": 0.7, "max_ece": 0.02, "max_cost_ratio": 0.9, "max_auc_loss": 0.01, "max_cost_increase": 0.02}
    fairness = ApprovalSettings(min_impact_ratio=0.8, min_rows=min_rows)
    return GateSettings(
        **values | changed,
        fairness=fairness,
        reasons=ReasonLimits(max_changed=0.25, min_declines=4),
        latency=LatencySettings(max_milliseconds=2.0, applications=3),
    )


def evaluation(auc: Estimate, ece: Estimate, cost: Estimate) -> Evaluation:
    estimates = {"auc": auc, "ece": ece, "ece_by_chance": Estimate(0.01, 0.0, 0.02), "cost_ratio": cost}
    return Evaluation(10, 5, 0.95, estimates, levels=(), thresholds=(), confusion=(0, 0, 0, 0))


AUC, ECE, COST = Estimate(0.75, 0.7, 0.8), Estimate(0.03, 0.01, 0.05), Estimate(0.9, 0.8, 1.0)


def test_an_approved_default_and_a_declined_repayer_cost_what_the_policy_says():
    target, probability = np.array([1, 1, 0, 0]), np.array([0.4, 0.6, 0.4, 0.6])
    assert _costs(target, probability, POLICY).tolist() == [10.0, 0.0, 0.0, 1.0]


def test_an_evaluation_that_is_just_good_enough_passes():
    assert list(evaluation_gates(evaluation(AUC, ECE, COST), limits())) == [
        Gate("AUC, lower end", "0.7000", "at least 0.7", passed=True),
        Gate("ECE", "0.0300, by chance 0.0100", "at most 0.02 above chance", passed=True),
        Gate("cost against the cheaper blanket rule", "0.9000", "at most 0.9", passed=True),
    ]


@pytest.mark.parametrize(
    ("auc", "ece", "cost", "passed"),
    [
        (Estimate(0.99, 0.6999, 0.99), ECE, COST, [False, True, True]),
        (AUC, Estimate(0.0301, 0.01, 0.05), COST, [True, False, True]),
        (AUC, ECE, Estimate(0.9001, 0.5, 1.0), [True, True, False]),
    ],
)
def test_the_auc_is_judged_by_its_lower_end_and_the_others_by_their_value(auc, ece, cost, passed):
    assert [gate.passed for gate in evaluation_gates(evaluation(auc, ece, cost), limits())] == passed


def test_a_comparison_says_the_worse_end_and_the_value():
    found = list(comparison_gates(Comparison(Estimate(0.002, -0.01, 0.02), Estimate(-0.001, -0.03, 0.02)), limits()))
    assert found == [
        Gate("AUC minus the champion's, lower end", "-0.0100 (+0.0020)", "at least -0.01", passed=True),
        Gate("cost minus the champion's, upper end", "+0.0200 (-0.0010)", "at most 0.02", passed=True),
    ]


def ratio(approved: int) -> ImpactRatio:
    return ImpactRatio(Group("sex", "M", 100, approved), Group("sex", "F", 100, 100))


def test_every_ratio_is_a_gate_that_says_its_group():
    compared = [GroupComparison("sex", ratio(80)), GroupComparison("age", ratio(79)), GroupComparison("status", None)]
    assert list(fairness_gates(compared, limits())) == [
        Gate("adverse impact ratio by sex (screening)", "0.8000 M", "at least 0.8", passed=True),
        Gate("adverse impact ratio by age (screening)", "0.7900 M", "at least 0.8", passed=False),
        Gate("adverse impact ratio by status (screening)", "too few rows", "at least 0.8", passed=True, judged=False),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (None, ("not comparable", True, False)),
        (ReasonChanges(3, 3), ("too few declines", True, False)),
        (ReasonChanges(4, 1), ("0.2500 of 4", True, True)),
        (ReasonChanges(1_000, 251), ("0.2510 of 1,000", False, True)),
    ],
)
def test_the_gate_of_reasons_judges_enough_declines(
    changes: ReasonChanges | None, expected: tuple[str, bool, bool]
) -> None:
    gate = reason_gate(changes, limits())
    assert (gate.figure, gate.passed, gate.judged) == expected
    assert gate.limit == "at most 0.25"


def test_the_gates_of_latency_and_parity_say_figure_and_limit():
    assert latency_gate(2.0, limits()) == Gate("median time of one application", "2.00 ms", "at most 2 ms", passed=True)
    assert not latency_gate(2.01, limits()).passed
    assert parity_gate(0, 1000) == Gate("differing probabilities of 1,000", "0", "at most 0", passed=True)
    assert parity_gate(1, 1000) == Gate("differing probabilities of 1,000", "1", "at most 0", passed=False)


@pytest.mark.parametrize(
    ("challenger", "champion", "allowed", "shown", "needed", "passed"),
    [
        ("train.csv", "train.csv", False, "real", "real", True),
        ("generated: 9 clients, seed 1", "train.csv", False, "generated", "real", False),
        ("generated: 9 clients, seed 1", "train.csv", True, "generated", "generated", True),
        ("train.csv", "generated: 9 clients, seed 1", False, "real", "generated", True),
    ],
)
def test_the_gate_of_the_data_says_what_is_needed(challenger, champion, allowed, shown, needed, passed):
    found = source_gate(challenger, champion, generated_allowed=allowed)
    assert found == Gate("data, against the champion's", shown, needed, passed)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_comparison_that_is_not_possible_must_be_done_without_on_demand(allowed):
    expected = Gate("comparison with the champion", "not possible", "--allow-uncompared", passed=allowed)
    assert comparability_gate(allowed=allowed) == expected


def test_gates_are_lines_of_a_table():
    gates = [
        Gate("ECE", "0.0200", "at most 0.02", passed=True),
        Gate("AUC, lower end", "0.6", "at least 0.7", passed=False),
        Gate("ratio", "too few rows", "at least 0.8", passed=True, judged=False),
    ]
    assert list(gate_lines(gates)) == [
        "ECE             0.0200        at most 0.02  passed",
        "AUC, lower end  0.6           at least 0.7  FAILED",
        "ratio           too few rows  at least 0.8  not screened",
    ]


def test_approvals_are_screened_by_sex_and_by_age():
    rows = columns(
        {"CODE_GENDER": "F", "DAYS_BIRTH": -9_000},
        {"CODE_GENDER": "F", "DAYS_BIRTH": -15_000},
        {"CODE_GENDER": "M", "DAYS_BIRTH": -23_000},
        {"CODE_GENDER": "M", "DAYS_BIRTH": -23_000},
    )
    probability = np.array([0.39, 0.4, 0.1, 0.7])  # a referral is no approval
    screening = screen(rows, probability, POLICY, limits().fairness)
    assert screening == Screening(
        {
            "sex": (Group("sex", "F", 2, 1), Group("sex", "M", 2, 1)),
            "marital_status": tuple(
                Group("marital_status", level, 0, 0) for level in APPLICATION["NAME_FAMILY_STATUS"].levels
            ),
            "age": (
                Group("age", "under 25", 1, 1),
                Group("age", "25 to under 40", 0, 0),
                Group("age", "40 to under 62", 1, 0),
                Group("age", "62 and over", 2, 1),
            ),
        },
        (
            GroupComparison("sex", ImpactRatio(Group("sex", "F", 2, 1), Group("sex", "M", 2, 1))),
            GroupComparison("marital_status", None),
            GroupComparison("age", None),
            GroupComparison(
                "age",
                ImpactRatio(Group("age", "62 and over", 2, 1), Group("age", "under 62", 2, 1)),
                "62 and over against under 62",
            ),
        ),
    )
    assert [group.attribute for group in screening.groups] == ["sex"] * 2 + ["marital_status"] * 5 + ["age"] * 4


def test_the_screening_is_held_against_the_limits_where_groups_are_large_enough():
    women, men = Group("sex", "F", 10, 9), Group("sex", "M", 12, 6)
    young, old = Group("age", "under 62", 10, 5), Group("age", "62 and over", 12, 6)
    found = {"sex": (women, men), "age": (young, old)}
    compared = (GroupComparison("sex", ImpactRatio(men, women)), GroupComparison("age", ImpactRatio(old, young)))
    screening = Screening(found, compared)
    sex, age = screening.gates(limits())
    assert (sex.name, sex.figure, sex.passed) == ("adverse impact ratio by sex (screening)", "0.5556 M", False)
    assert (age.name, age.figure, age.passed) == ("adverse impact ratio by age (screening)", "1.0000 62 and over", True)
    few = Screening(found, (GroupComparison("sex", None), GroupComparison("age", None)))
    assert [gate.figure for gate in few.gates(limits())] == ["too few rows", "too few rows"]


def test_a_portfolio_without_protected_attributes_is_not_said_to_have_been_screened():
    [gate] = Screening({}, ()).gates(limits())
    assert (gate.figure, gate.result, gate.passed) == ("nothing is declared", "not screened", True)
