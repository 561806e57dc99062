"""Curves of approvals, figures on held-out rows, fronts and prices, on tiny inputs."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.measures import Estimate, auc
from scoring.policy import DecisionPolicy, PointScale
from training.search.frontier import (
    ANY,
    EVERY,
    POLICY,
    SAME,
    AlternativePoint,
    ApprovalCurve,
    ConfirmedFigures,
    HeldOut,
    SearchedFigures,
    confirmed,
    pareto_front,
    prices,
    wanted_points,
)

TARGET = np.array([0, 0, 1, 0, 1, 1])
PD = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
GROUPS = {"sex": {"F": np.array([1, 0, 1, 0, 1, 0], dtype=bool), "M": np.array([0, 1, 0, 1, 0, 1], dtype=bool)}}


def policy(cutoff: float, band: float = 0.0) -> DecisionPolicy:
    scale = PointScale(base=600, odds=50, double=20)
    bounds = (0.04, 0.08, 0.16)
    return DecisionPolicy(cutoff, cutoff * (1 - band), cutoff * (1 + band), bounds, 10.0, 1.0, scale)


def test_a_curve_has_the_ratio_and_cost_of_every_number_of_approvals() -> None:
    curve = ApprovalCurve.of(TARGET, PD, GROUPS, policy(0.35))
    assert curve.approvals.tolist() == [1, 2, 3, 4, 5]
    assert curve.ratios["sex"].tolist() == [0.0, 1.0, 0.5, 1.0, pytest.approx(2 / 3)]
    assert curve.cutoffs.tolist() == PD[1:].tolist()
    assert (curve.costs * 6).tolist() == [2.0, 1.0, 11.0, 10.0, 20.0]
    assert curve.reaching("sex", 0.9, 3) == 3
    assert curve.reaching("sex", 0.9, 5) is None
    assert curve.nearest(3) == 2


def test_a_cut_off_approves_all_of_one_pd_or_none() -> None:
    curve = ApprovalCurve.of(TARGET, np.array([0.1, 0.2, 0.2, 0.2, 0.5, 0.6]), GROUPS, policy(0.35))
    assert curve.approvals.tolist() == [1, 4, 5]


def test_referred_applications_are_not_approved() -> None:
    curve = ApprovalCurve.of(TARGET, PD, GROUPS, policy(0.3, band=0.5))
    # approved are PDs below half of the cut-off, and declined those from the cut-off on
    assert curve.cutoffs[0] == pytest.approx(0.4)
    assert curve.costs[0] * 6 == pytest.approx(1 + 10)


def test_held_out_figures_are_those_of_the_rows() -> None:
    held = HeldOut(TARGET, PD, GROUPS, policy(0.35))
    area, cost, approved, ratio = held.measured(np.ones(6))
    assert area == auc(TARGET, PD)
    assert (cost, approved, ratio) == (pytest.approx(11 / 6), 0.5, 0.5)
    twice = held.measured(np.full(6, 2.0))
    assert twice.tolist() == pytest.approx([area, cost, approved, ratio])
    assert held.shares() == {"sex": {"F": pytest.approx(2 / 3), "M": pytest.approx(1 / 3)}}


def test_a_model_against_itself_has_no_change() -> None:
    held, random = HeldOut(TARGET, PD, GROUPS, policy(0.35)), np.random.default_rng(1)
    draws = [random.permutation([1.0, 1.0, 1.0, 1.0, 0.5, 1.5]) for _ in range(30)]
    found = confirmed(held, held, draws, 0.95)
    assert found.auc_change == found.cost_change == found.ratio_changes["sex"] == Estimate(0.0, 0.0, 0.0)
    assert found.auc.low <= found.auc.value <= found.auc.high


def figures(area: float, ratio: float, cost: float = 0.5) -> SearchedFigures:
    return SearchedFigures(auc=area, cost=cost, approved=0.6, ratios={"age": ratio})


def test_the_front_holds_what_nothing_beats() -> None:
    trials = {0: figures(0.75, 0.4), 1: figures(0.74, 0.6), 2: figures(0.73, 0.5), 3: figures(0.70, 0.9)}
    assert pareto_front(trials, "age") == [0, 1, 3]


def test_points_are_the_cheapest_way_to_each_ratio_first() -> None:
    by_trial = {0: figures(0.75, 0.4), 1: figures(0.70, 0.82), 2: figures(0.72, 0.81), 3: figures(0.65, 0.95)}
    trials = {number: {SAME: one} for number, one in by_trial.items()}
    trials[0]["age 0.8"] = figures(0.75, 0.8, cost=0.7)
    drawn = {0: {"reweigh age": 0.0}, 1: {"reweigh age": 0.0}, 2: {"reweigh age": 1.0}, 3: {"reweigh age": 0.0}}
    points = wanted_points(trials, drawn, ["age"], [0.8])
    assert [(point.trial, point.rule) for point in points[:4]] == [(1, SAME), (3, SAME), (0, ANY), (2, SAME)]
    assert points[2].reaching == ("age", 0.8)
    assert [point.name for point in points[:2]] == ["point-01", "point-02"]


def test_a_cut_off_of_a_fit_that_reads_groups_has_a_twin_that_reads_none() -> None:
    trials = {0: {SAME: figures(0.75, 0.4)}, 1: {SAME: figures(0.74, 0.5)}, 2: {SAME: figures(0.73, 0.6)}}
    for number, cost in ((0, 0.7), (1, 0.6), (2, 0.65)):
        trials[number]["age 0.8"] = figures(0.7, 0.8, cost=cost)
    drawn = {0: {"reweigh age": 0.0}, 1: {"reweigh age": 1.0}, 2: {"reweigh age": 0.0}}
    points = wanted_points(trials, drawn, ["age"], [0.8])
    assert [point.trial for point in points if point.rule == ANY] == [2, 1]


def point(name: str, area: float, ratio: float, *, rule: str = SAME, reads: tuple[str, ...] = ()) -> AlternativePoint:
    exact = Estimate(ratio, ratio, ratio)
    change = Estimate(area - 0.75, area - 0.76, area - 0.74)
    own = ConfirmedFigures(
        auc=Estimate(area, area, area),
        cost=Estimate(1 - area, 1 - area, 1 - area),
        approved=exact,
        ratios={"age": exact, "sex": Estimate(0.95, 0.9, 1.0)},
        auc_change=change,
        cost_change=Estimate(0.75 - area, 0.0, 0.0),
        ratio_changes={"age": exact},
        shares={"age": {"under 25": 0.3}},
    )
    searched = figures(area, ratio)
    return AlternativePoint(
        name=name,
        file=f"{name}.yaml",
        trial=1,
        rule=rule,
        reads=reads,
        changes=(),
        cutoff=0.1,
        searched=searched,
        confirmed=own,
    )


def test_prices_are_of_confirmed_points_and_say_what_is_not_found() -> None:
    baseline = point("baseline", 0.75, 0.4, rule=POLICY)
    points = [
        point("point-01", 0.73, 0.6),
        point("point-02", 0.72, 0.82, reads=("age",)),
        point("point-03", 0.75, 0.9, rule=ANY),
        point("point-04", 0.76, 0.9, rule=ANY, reads=("age",)),
    ]
    found = {(one.attribute, one.how): one for one in prices(baseline, points, ["age", "sex"], [0.8])}
    assert len(found) == 12
    missed = found["age", SAME]
    assert (missed.point, missed.reached, missed.auc) == (None, 0.6, None)
    read = found["age", f"{SAME}; a fit may read a group"]
    assert read.point == "point-02"
    assert read.auc is not None
    assert read.auc.value == pytest.approx(-0.03)
    assert found["age", ANY].point == "point-03"
    assert found["age", f"{ANY}; a fit may read a group"].point == "point-04"
    assert found["sex", SAME].point == "baseline"
    assert found[EVERY, ANY].point == "point-03"


def test_a_baseline_that_reads_groups_has_a_price_of_those_alone() -> None:
    baseline = point("baseline", 0.75, 0.9, rule=POLICY, reads=("age",))
    found = {one.how: one.point for one in prices(baseline, [], ["age"], [0.8])}
    assert found == {f"{SAME}; a fit may read a group": "baseline", f"{ANY}; a fit may read a group": "baseline"}
