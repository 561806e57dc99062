"""Results of live tests: planted models on generated traffic, real logs, and nothing said between the looks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from tests.monitoring.recording import KEY
from tests.training.live import APPROVE, DAY, DECLINE, STARTS, LiveRecord, applicants, design, traffic, write_log
from training.cli import main
from training.errors import PlanError
from training.live.arms import (
    LiveApplicants,
    PairedDifference,
    arm_difference,
    check_split,
    paired_difference,
)
from training.live.plan import LiveMetric, LivePlan, PlannedLook
from training.live.result import LiveResult, LiveVerdict, judge_live, result_lines

EXPERIMENTS = 200
LATER = datetime.fromtimestamp(STARTS, UTC) + timedelta(days=365)


@pytest.mark.parametrize(("challenger", "sign"), [("better", 1), ("worse", -1)])
def test_a_planted_challenger_gets_the_right_sign_and_intervals_cover_the_known_difference(
    challenger: str, sign: int
) -> None:
    known, of, random = traffic().known_difference(challenger), design(), np.random.default_rng(23)
    unpaired, paired = [], []
    for _ in range(EXPERIMENTS):
        seen = traffic().test(challenger, 20_000, 0.5, random)
        unpaired.append(arm_difference(seen, of, LiveMetric.PROFIT, 1.96).estimate)
        both = paired_difference(seen, of, 1.96)
        assert both is not None
        assert both.profit is not None
        paired.append(both.profit)
    assert np.sign(known) == sign
    assert np.mean([np.sign(found.value) == sign for found in unpaired]) >= 0.97
    assert {np.sign(found.value) for found in paired} == {sign}
    for found in (unpaired, paired):
        covered = sum(one.low <= known <= one.high for one in found)
        # in one run of a thousand chance alone would leave an interval of 95 % below or above
        assert binom.ppf(0.0005, EXPERIMENTS, 0.95) <= covered <= binom.ppf(0.9995, EXPERIMENTS, 0.95)
        assert np.mean([one.value for one in found]) == pytest.approx(known, abs=0.01)
    widths = [np.mean([one.high - one.low for one in found]) for found in (unpaired, paired)]
    assert widths[1] < 0.7 * widths[0]


def test_exploration_and_unequal_coverage_bias_nothing() -> None:
    """The champion alone explores, and a third of its applicants has shadow records, but all of the challenger's."""
    known, of, random = traffic().known_difference("better"), design(), np.random.default_rng(43)
    gained = float((traffic().approved["better"] * 1.0 - traffic().approved["champion"]).mean())
    unpaired, profit, approvals = [], [], []
    for _ in range(EXPERIMENTS):
        seen = traffic().test("better", 20_000, 0.5, random, exploring=(0.2, 0.0), covered=(0.33, 1.0))
        unpaired.append(arm_difference(seen, of, LiveMetric.PROFIT, 1.96).estimate)
        both = paired_difference(seen, of, 1.96)
        assert both is not None
        assert both.profit is not None
        profit.append(both.profit)
        approvals.append(both.approvals)
    for found, truth in ((unpaired, known), (profit, known), (approvals, gained)):
        covered = sum(one.low <= truth <= one.high for one in found)
        assert binom.ppf(0.0005, EXPERIMENTS, 0.95) <= covered <= binom.ppf(0.9995, EXPERIMENTS, 0.95)
        assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize(("challenger", "verdict"), [("better", LiveVerdict.BETTER), ("worse", LiveVerdict.WORSE)])
def test_a_sequential_test_of_a_planted_challenger_stops_early_with_the_right_verdict(
    challenger: str, verdict: LiveVerdict
) -> None:
    of = design(difference=0.05, rule="obrien-fleming", shares=[0.7, 0.3])
    plan = of.plan()
    seen = traffic().test(challenger, plan.planned[-1].applicants, 0.3, np.random.default_rng(29))
    result = judge_live(seen, plan, LATER)
    assert (result.verdict, result.look < 5) == (verdict, True)
    # whoever reads it later, with more applicants, reads the same
    assert (
        judge_live(seen.first(plan.planned[result.look - 1].applicants), plan, LATER).differences == result.differences
    )


def test_differences_are_those_of_a_direct_computation() -> None:
    arm = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    seen = applicants(arm, np.array([0, 0, 2, 1, 0, 0, 0, 2]), np.array([0, 1, -1, 0, 0, 0, 1, -1]))
    profit = arm_difference(seen, design(), LiveMetric.PROFIT, 2.0)
    brought = np.array([1, -10, 0, 1]), np.array([1, 1, -10, 0])
    error = math.sqrt(sum(each.var(ddof=1) / 4 for each in brought))
    assert (profit.champion, profit.challenger, profit.rows) == (-2, -2, (4, 4))
    assert (profit.estimate.value, profit.z) == (0, 0)
    assert profit.estimate.high == pytest.approx(2 * error)
    rate = arm_difference(seen, design(), LiveMetric.DEFAULT_RATE, 2.0)
    assert (rate.champion, rate.challenger, rate.rows) == (1 / 3, 1 / 3, (3, 3))
    assert rate.estimate.high == pytest.approx(2 * math.sqrt(2 * 0.4 * 0.6 / 5))
    approvals = arm_difference(seen, design(), LiveMetric.APPROVALS, 2.0)
    assert (approvals.champion, approvals.challenger) == (0.5, 0.75)


def test_a_one_sided_interval_bounds_the_side_that_is_asked_about() -> None:
    seen = traffic().test("better", 1_000, 0.5, np.random.default_rng(31))
    of = design(sides=1)
    profit, rate = (arm_difference(seen, of, metric, 1.64) for metric in (LiveMetric.PROFIT, LiveMetric.DEFAULT_RATE))
    assert (profit.estimate.high, rate.estimate.low) == (math.inf, -math.inf)
    assert (profit.estimate.low < profit.estimate.value, rate.estimate.value < rate.estimate.high) == (True, True)


def test_a_one_sided_test_never_says_worse() -> None:
    plan = design(sides=1, difference=0.05).plan()
    seen = traffic().test("worse", plan.planned[-1].applicants, 0.5, np.random.default_rng(37))
    assert judge_live(seen, plan, LATER).verdict is LiveVerdict.NOTHING


def test_paired_figures_count_who_is_approved_by_one_alone() -> None:
    """Champion's applicants first: both approve, it alone does, the other alone does; then the challenger's."""
    arm = np.array([0, 0, 0, 1, 1, 1])
    own, other = np.array([0, 0, 2, 0, 0, 2]), np.array([0, 2, 0, 0, 2, 0])
    seen = applicants(arm, own, np.array([0, 1, -1, 1, 0, -1]), other)
    found = paired_difference(seen, design(shares=[0.6, 0.2]), 2.0)  # the shares of the plan do not matter
    assert isinstance(found, PairedDifference)
    assert (found.rows, found.gained, found.lost) == (6, 2, 2)
    assert found.approvals.value == 0
    assert found.profit is not None
    # the champion lost 10 on one of three, and the challenger gained 1 on one of three
    assert found.profit.value == pytest.approx(1 / 3 + 10 / 3)
    spread = np.array([0, -10, 0]).var(ddof=1) / 3 + np.array([0, 1, 0]).var(ddof=1) / 3
    assert found.profit.high - found.profit.value == pytest.approx(2 * math.sqrt(spread))
    alone = paired_difference(seen.first(3), design(), 2.0)
    assert alone is not None
    assert (alone.profit, alone.lost, alone.gained) == (None, 1, 1)
    assert paired_difference(replace(seen, other=np.full(6, -1, dtype=np.int8)), design(), 2.0) is None


def small_plan(*looks: int, **changed: object) -> LivePlan:
    """A plan with looks at so few applicants that a test can list them."""
    planned = tuple(PlannedLook(applicants=count, bound=2.5, alpha=0.05) for count in looks)
    return LivePlan(design=design(**changed), planned=planned, days=1, digest="0" * 64)


def even(count: int) -> LiveApplicants:
    """Applicants of both variants in turn, all approved and repaid."""
    return applicants(np.arange(count) % 2, np.full(count, APPROVE), np.zeros(count))


def test_between_two_looks_no_figure_is_shown() -> None:
    plan = small_plan(100, 200)
    before = judge_live(even(99), plan, LATER)
    assert (before.look, before.verdict, before.differences, before.paired) == (0, LiveVerdict.GO_ON, (), None)
    assert "next look: at 100 applicants with outcome; 99 are there" in list(result_lines(before))
    at_first, later = judge_live(even(100), plan, LATER), judge_live(even(199), plan, LATER)
    assert (at_first.look, later.look, later.matured) == (1, 1, 199)
    assert at_first.differences == later.differences
    assert judge_live(even(200), plan, LATER).verdict is LiveVerdict.NOTHING


def test_an_applicant_counts_once_the_outcome_has_matured() -> None:
    plan = small_plan(100)  # of one applicant a second, and 30 days until an outcome is known
    ripe = datetime.fromtimestamp(STARTS + 99, UTC) + timedelta(days=30)
    assert judge_live(even(150), plan, ripe).matured == 100
    assert judge_live(even(150), plan, ripe - timedelta(seconds=1)).verdict is LiveVerdict.GO_ON


def test_outcomes_that_end_before_the_look_are_refused() -> None:
    seen = even(100)
    old = replace(seen, outcome=np.where(np.arange(100) < 90, 0, -1).astype(np.int8))
    with pytest.raises(PlanError, match=r"^look 1: outcomes of its newest applicants are missing"):
        judge_live(old, small_plan(100), LATER)
    with pytest.raises(PlanError, match=r"^look 1"):
        judge_live(replace(seen, outcome=np.full(100, -1, dtype=np.int8)), small_plan(100), LATER)
    nothing_needed = small_plan(100, metric="approvals", difference=0.1)
    assert judge_live(old, nothing_needed, LATER).verdict is LiveVerdict.NOTHING


def test_a_split_that_is_not_the_planned_one_gets_no_verdict() -> None:
    uneven = applicants(np.arange(1_000) % 5 == 0, np.zeros(1_000), np.zeros(1_000))
    found = judge_live(uneven, small_plan(100), LATER)
    assert (found.verdict, found.look, found.differences) == (LiveVerdict.BROKEN, 0, ())
    assert list(result_lines(found))[-1] == "no verdict: the split is not the planned one"
    assert check_split(uneven, design(shares=[0.4, 0.1])).fault is None  # a third variant has the other half


def test_the_check_of_the_split_is_wrong_once_in_a_thousand() -> None:
    random = np.random.default_rng(41)
    faults = 0
    for _ in range(2_000):
        arm = random.random(2_000) < 0.1
        faults += check_split(applicants(arm, arm, arm), design(shares=[0.9, 0.1])).fault is not None
    assert faults <= binom.ppf(0.999, 2_000, 0.001)


def test_a_split_that_does_not_stick_gets_no_verdict() -> None:
    few, many = (replace(even(1_000), crossed=count) for count in (10, 11))
    assert judge_live(few, small_plan(100), LATER).verdict is LiveVerdict.NOTHING
    assert judge_live(many, small_plan(100), LATER).verdict is LiveVerdict.BROKEN


RECORDS = [
    LiveRecord("early", "champion", APPROVE, STARTS - DAY, "r-early"),  # before the test starts
    *[
        LiveRecord(f"client-{n}", ("champion", "challenger")[n % 2], (APPROVE, APPROVE, DECLINE)[n % 3],
                   STARTS + 60 * n, f"r-{n}")
        for n in range(60)
    ],
    LiveRecord("client-4", "champion", DECLINE, STARTS + DAY, "again"),  # applies again
    LiveRecord(None, "champion", APPROVE, STARTS + 30, "nameless"),
    LiveRecord("client-x", "other", APPROVE, STARTS + 30, "third"),
]  # fmt: skip
OUTCOMES = {f"client-{n}": int(n % 20 == 0) for n in range(60) if n % 3 < 2}


def files(folder: Path, plan: LivePlan, records: list[LiveRecord], rows: dict[str, int]) -> list[str]:
    """The command for a log of these records."""
    write_log(folder / "decisions", records)
    (folder / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    (folder / "outcomes.csv").write_text("client_id,outcome\n" + "".join(f"{key},{bad}\n" for key, bad in rows.items()))
    names = {"--plan": "plan.json", "--log": "decisions", "--outcomes": "outcomes.csv", "--json": "found.json"}
    return ["test-result", *(word for option, name in names.items() for word in (option, str(folder / name)))]


def of_few(**changed: object) -> LivePlan:
    """A true plan that 60 applicants fulfil: the difference it looks for is huge."""
    figures = {"default_rate": 0.06, "approval_share": 0.5, "cost_fn": 10, "cost_fp": 1}
    return design(**{"metric": "approvals", "difference": 0.37, "assumed": figures, **changed}).plan()


def test_the_command_reads_a_real_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    plan = of_few()
    needed = plan.planned[-1].applicants
    assert 50 <= needed <= 60
    command = files(tmp_path, plan, RECORDS, OUTCOMES)
    shadow = [replace(one, variant="challenger", decision=APPROVE) for one in RECORDS if one.variant == "champion"]
    write_log(tmp_path / "decisions" / "shadow", shadow)
    assert main([*command, "--shadow", str(tmp_path / "decisions" / "shadow"), "--as-of", "2026-12-01"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["split"]["applicants"] == [30, 30]
    assert (found["split"]["crossed"], found["split"]["repeated"], found["split"]["nameless"]) == (0, 1, 1)
    assert (found["plan"], found["matured"], found["look"]) == (plan.digest, 60, 1)
    seen = [one for one in RECORDS[1:61] if int(one.request[2:]) < needed]
    champion, challenger = ([one for one in seen if one.variant == arm] for arm in ("champion", "challenger"))
    figures = {each["metric"]: each for each in found["differences"]}
    for arm, name in ((champion, "champion"), (challenger, "challenger")):
        granted = [OUTCOMES[one.client] for one in arm if one.client in OUTCOMES]
        assert figures["approvals"][name] == pytest.approx(sum(one.decision == APPROVE for one in arm) / len(arm))
        assert figures["default_rate"][name] == pytest.approx(np.mean(granted))
        assert figures["profit"][name] == pytest.approx(sum(1 - 11 * bad for bad in granted) / len(arm))
    declined = sum(one.decision == DECLINE for one in champion)
    assert (found["paired"]["rows"], found["paired"]["gained"]) == (len(champion), declined)
    assert found["paired"]["profit"] is None
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == found["verdict"] == "stop: no difference shown"
    assert "client-" not in "".join(said)


def test_what_is_approved_at_random_counts_as_the_decline_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten applicants whom the champion granted a loan at random, which they did not repay."""
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    drawn = [
        replace(one, decision=APPROVE, explored=True) if one.variant == "champion" and one.decision == DECLINE else one
        for one in RECORDS
    ]
    lost = {one.client: 1 for one in drawn if one.explored and one.client not in OUTCOMES}
    results = []
    for name, records, rows in (("plain", RECORDS, OUTCOMES), ("drawn", drawn, {**OUTCOMES, **lost})):
        (tmp_path / name).mkdir()
        shadow = [replace(one, variant="challenger", explored=False) for one in records if one.variant == "champion"]
        command = files(tmp_path / name, of_few(), records, rows)  # type: ignore[arg-type]  # their clients have names
        write_log(tmp_path / name / "shadow", [replace(one, decision=DECLINE) for one in shadow])
        assert main([*command, "--shadow", str(tmp_path / name / "shadow"), "--as-of", "2026-12-01"]) == 0
        results.append(json.loads((tmp_path / name / "found.json").read_text()))
    seen = results[1].pop("explored"), results[0].pop("explored")
    assert (seen[1], seen[0][1]) == ([0, 0], 0)
    assert f"  approved at random, counted as declined: {seen[0][0]} and 0" in capsys.readouterr().out.splitlines()
    assert results[0] == results[1]


def test_outcomes_by_request_are_those_of_the_first_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    command = files(tmp_path, of_few(), RECORDS, OUTCOMES)
    (tmp_path / "outcomes.csv").write_text("request_id,outcome\nr-0,1\nr-3,0\nagain,1\nthird,1\n")
    assert main([*command, "--as-of", "2026-12-01"]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["known"] == [1, 1]


def test_a_client_in_two_arms_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    crossing = LiveRecord("client-4", "challenger", APPROVE, STARTS + DAY, "crossed")
    command = files(tmp_path, of_few(), [*RECORDS, crossing], OUTCOMES)
    assert main([*command, "--as-of", "2026-12-01"]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[2].endswith("1 clients have decisions of both variants and count for the first")
    assert said[-1] == "no verdict: the split does not stick: too many clients have decisions of both variants"
    assert main([*command, "--as-of", "2026-12-01", "--until", "2026-02-02T12:00:00Z"]) == 0  # as after a halt


@pytest.mark.parametrize(
    ("changed", "without", "reason"),
    [
        ({"metric": "profit", "difference": 3.0}, "--outcomes", "plan.json: the metric profit needs --outcomes"),
        (
            {"champion": "a", "challenger": "b"},
            None,
            "decisions: no decision of a or b on a named client since the test",
        ),
    ],
)
def test_what_is_missing_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: dict[str, object],
    without: str | None, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    command = files(tmp_path, design(**{"metric": "approvals", **changed}).plan(), RECORDS[:3], OUTCOMES)
    if without:
        at = command.index(without)
        command = command[:at] + command[at + 2 :]
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert reason in said


def test_a_changed_plan_gives_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    plan = of_few()
    command = files(tmp_path, plan.model_copy(update={"days": plan.days + 1}), RECORDS, OUTCOMES)
    assert main(command) == 1
    assert "its digest is another" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()


def test_a_result_is_the_same_whatever_the_order_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    found = []
    for name, records in (("one", RECORDS), ("two", RECORDS[::-1])):
        (tmp_path / name).mkdir()
        assert main([*files(tmp_path / name, of_few(), records, OUTCOMES), "--as-of", "2026-12-01"]) == 0
        found.append((tmp_path / name / "found.json").read_text())
    assert found[0] == found[1]


def test_lines_say_the_verdict_last_and_hold_no_figure_before_a_look() -> None:
    result: LiveResult = judge_live(even(50), small_plan(100, 200), LATER)
    assert list(result_lines(result))[-1] == "go on"
    assert not [line for line in result_lines(result) if "challenger less champion" in line]
