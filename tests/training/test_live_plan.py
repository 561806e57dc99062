"""Plans of live tests: sizes that reach the power, bounds that spend the alpha, files that nobody changes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from jobs.errors import SettingsError
from tests.training.live import APPROVE, DECLINE, applicants, design
from training.cli import main
from training.errors import PlanError
from training.live.arms import LiveApplicants, arm_difference
from training.live.plan import AssumedFigures, LiveDesign, LiveMetric, LivePlan, crossing_chance, look_bounds

pytestmark = pytest.mark.filterwarnings("error")
EXPERIMENTS = 1_000


@pytest.mark.parametrize(
    ("looks", "alpha", "sides", "bounds"),
    [
        (1, 0.05, 2, [1.9600]),
        (1, 0.05, 1, [1.6449]),
        (5, 0.05, 2, [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),  # as of ldbounds and gsDesign
        (5, 0.025, 1, [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),
        (2, 0.05, 2, [2.9626, 1.9686]),
    ],
)
def test_bounds_are_those_of_the_literature(looks: int, alpha: float, sides: int, bounds: list[float]) -> None:
    assert look_bounds(looks, alpha, sides) == pytest.approx(bounds, abs=1e-4)


@pytest.mark.parametrize(("looks", "sides"), [(1, 1), (1, 2), (3, 1), (5, 2), (10, 2)])
def test_all_looks_together_spend_alpha(looks: int, sides: int) -> None:
    bounds = look_bounds(looks, 0.05, sides)
    assert sides * crossing_chance(bounds, 0.0, two_sided=sides == 2) == pytest.approx(0.05, abs=1e-5)


def test_a_fixed_size_is_that_of_the_textbook() -> None:
    """Two shares, 50 to 50: (z + z)^2 (2 p q) / d^2 in each arm, with the larger variance."""
    planned = design(metric="approvals", difference=0.05, assumed=assumed(approval_share=0.4)).plan()
    each = (norm.isf(0.025) + norm.isf(0.2)) ** 2 * 2 * 0.45 * 0.55 / 0.05**2
    assert planned.planned[-1].applicants == pytest.approx(2 * each, abs=2)


def assumed(**changed: float) -> dict[str, float]:
    return {"default_rate": 0.06, "approval_share": 0.7, "cost_fn": 10, "cost_fp": 1, **changed}


@pytest.mark.parametrize("metric", list(LiveMetric))
def test_the_assumed_variance_is_that_of_drawn_applicants(metric: LiveMetric) -> None:
    figures = AssumedFigures(**assumed())
    drawn, _ = null_test(design(), 400_000, np.random.default_rng(2)).figures(design(), metric)
    assert figures.variance(metric, 0.0) == pytest.approx(drawn.var(), rel=0.02)
    assert figures.counted(metric) == pytest.approx(len(drawn) / 400_000, rel=0.01)


def null_test(
    of: LiveDesign, rows: int, random: np.random.Generator, *, rate: float | None = None, share: float | None = None
) -> LiveApplicants:
    """Applicants as the design assumes them; of the challenger with another default rate or share of approvals."""
    figures = of.assumed
    arm = random.random(rows) < of.shares[1] / sum(of.shares)
    granted = random.random(rows) < np.where(arm, share or figures.approval_share, figures.approval_share)
    bad = random.random(rows) < np.where(arm, rate or figures.default_rate, figures.default_rate)
    return applicants(arm, np.where(granted, APPROVE, DECLINE), np.where(granted, bad, -1))


DESIGNS = [
    {"metric": "profit", "difference": 0.15},
    {"metric": "profit", "difference": 0.15, "rule": "obrien-fleming", "shares": [0.8, 0.2]},
    {"metric": "default_rate", "difference": 0.02, "sides": 1},
    {"metric": "default_rate", "difference": 0.02, "rule": "obrien-fleming"},
    {"metric": "approvals", "difference": 0.06, "rule": "obrien-fleming", "shares": [0.6, 0.3]},
]
every_design = pytest.mark.parametrize(
    "changed", DESIGNS, ids=lambda one: f"{one['metric']}-{one.get('rule', 'fixed')}"
)


def rejects(of: LiveDesign, plan: LivePlan, seen: LiveApplicants) -> int:
    """The sign of the first z beyond its bound, times the metric's: 1 better, -1 worse, 0 neither."""
    for look in plan.planned:
        z = arm_difference(seen.first(look.applicants), of, of.metric, look.bound).z * of.metric.better
        if abs(z) > look.bound and (of.sides == 2 or z > 0):
            return int(np.sign(z))
    return 0


@every_design
def test_of_1000_experiments_without_difference_alpha_reject(changed: dict[str, Any]) -> None:
    of, random = design(**changed), np.random.default_rng(17)
    plan = of.plan()
    last = plan.planned[-1].applicants
    rejected = sum(rejects(of, plan, null_test(of, last, random)) != 0 for _ in range(EXPERIMENTS))
    # the stated rate, and what the binomial distribution of 1,000 experiments adds by chance in one of a thousand runs
    assert rejected / EXPERIMENTS <= 0.05 + norm.isf(0.001) * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert rejected > 0


@every_design
def test_the_planned_size_reaches_the_power(changed: dict[str, Any]) -> None:
    of, random = design(**changed), np.random.default_rng(19)
    plan, figures, better = of.plan(), of.assumed, of.difference * of.metric.better
    shifted = {"rate": figures.default_rate + better} if of.metric is LiveMetric.DEFAULT_RATE else {}
    if of.metric is LiveMetric.APPROVALS:
        shifted = {"share": figures.approval_share + better}
    if of.metric is LiveMetric.PROFIT:  # by fewer defaults: each costs what a good one brings, and what it loses
        shifted = {"rate": figures.default_rate - better / figures.approval_share / 11}
    last = plan.planned[-1].applicants
    found = [rejects(of, plan, null_test(of, last, random, **shifted)) for _ in range(EXPERIMENTS)]
    tolerance = norm.isf(0.001) * math.sqrt(0.8 * 0.2 / EXPERIMENTS)
    assert np.mean(np.array(found) == 1) >= 0.8 - tolerance
    assert -1 not in found


OPTIONS = [
    "plan-test", "--name", "autumn", "--difference", "0.1", "--default-rate", "0.06", "--approval-share", "0.7",
    "--share", "0.2", "--applicants-per-day", "500", "--mature-days", "180", "--starts", "2026-12-01",
]  # fmt: skip


def test_the_command_writes_a_plan_and_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*OPTIONS, "--output", str(file)]) == 0
    plan = LivePlan.load(file)
    assert (plan.design.shares, plan.design.rule, len(plan.planned)) == ((0.8, 0.2), "obrien-fleming", 5)
    assert (plan.design.assumed.cost_fn, plan.design.assumed.cost_fp) == (10, 1)
    assert plan.days == math.ceil(plan.planned[-1].applicants / 500)
    said = capsys.readouterr().out.splitlines()
    assert said[2] == f"{plan.planned[-1].applicants:,} applicants, {plan.days:,} days of traffic, and 180 more"
    assert said[-1] == f"digest {plan.digest}"


@pytest.mark.parametrize("words", [["--alpha", "0.01"], ["--alpha", "0.01", "--looks", "8"]])
def test_a_first_look_may_spend_next_to_nothing(words: list[str], tmp_path: Path) -> None:
    assert main([*OPTIONS, "--rule", "obrien-fleming", *words, "--output", str(tmp_path / "plan.json")]) == 0
    first, *_, last = LivePlan.load(tmp_path / "plan.json").planned
    assert 0 < first.alpha < 5e-7
    assert last.alpha == pytest.approx(0.01)


def test_a_plan_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*OPTIONS, "--output", str(file)]) == 0
    before = file.read_bytes()
    assert main([*OPTIONS, "--alpha", "0.1", "--output", str(file)]) == 1
    assert capsys.readouterr().err == f"error: {file}: is there already, and a plan is not changed: name another file\n"
    assert file.read_bytes() == before


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    design(rule="obrien-fleming").plan().write(file)
    changed = json.loads(file.read_text())
    changed["planned"][0]["bound"] = 1.96
    file.write_text(json.dumps(changed))
    with pytest.raises(PlanError, match=r"plan\.json: was changed after it was written: its digest is another$"):
        LivePlan.load(file)


def test_a_rule_that_its_design_does_not_give_is_refused_with_any_digest(tmp_path: Path) -> None:
    from training.live.plan import _digest

    file = tmp_path / "plan.json"
    plan = design(rule="obrien-fleming").plan()
    looks = (plan.planned[0].model_copy(update={"bound": 1.96}), *plan.planned[1:])
    forged = plan.model_copy(update={"planned": looks})
    forged.model_copy(update={"digest": _digest(forged.model_dump(mode="json"))}).write(file)
    with pytest.raises(PlanError, match="its looks are not those that its design gives"):
        LivePlan.load(file)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shares": [0.9, 0.2]}, "shares: both must be above 0, and together at most 1"),
        ({"shares": [1.0, 0.0]}, "shares: both must be above 0, and together at most 1"),
        ({"champion": "challenger"}, "challenger: a test needs two variants"),
        ({"looks": 3}, "looks: the rule fixed has 1, and obrien-fleming at least 2"),
        ({"rule": "obrien-fleming", "looks": 1}, "looks: the rule fixed has 1, and obrien-fleming at least 2"),
        ({"metric": "default_rate", "difference": 0.06}, "difference: 0.06 is too much for the assumed default_rate"),
        ({"metric": "approvals", "difference": 0.3}, "difference: 0.3 is too much for the assumed approvals"),
    ],
)
def test_a_design_that_contradicts_itself_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(PlanError) as refused:
        design(**changed).plan()
    assert str(refused.value) == reason


@pytest.mark.parametrize("changed", [{"alpha": 0.5}, {"power": 1.0}, {"sides": 3}, {"starts": "2026-02-02T00:00:00"}])
def test_a_design_out_of_bounds_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^design: {next(iter(changed))}"):
        design(**changed)
