"""The result of a live test: what the looks of its plan say of the applicants so far, and nothing between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from jobs.commandline import Progress, say, table
from jobs.output import write_json
from monitoring.outcomes import read_outcomes
from monitoring.performance import without_nan
from training.errors import PlanError
from training.live.arms import (
    ArmDifference,
    LiveApplicants,
    PairedDifference,
    SplitCheck,
    arm_difference,
    check_split,
    paired_difference,
    read_applicants,
)
from training.live.plan import LiveDesign, LiveMetric, LivePlan, PlannedLook


class LiveVerdict(StrEnum):
    """What the look says; a one-sided test never says that the challenger is worse."""

    BETTER = "stop: challenger better"
    WORSE = "stop: challenger worse"
    NOTHING = "stop: no difference shown"
    GO_ON = "go on"
    BROKEN = "no verdict"


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a test says so far.

    Attributes
    ----------
    matured : applicants whose outcome counts as known
    look : number of the planned look that the figures are of; 0 before the first, where there are none
    differences : of every metric; the verdict is that of the planned one
    granted, known : approved applicants of each variant at that look, and applicants with a known outcome
    explored : applicants of each variant approved at random, who count as declined
    """

    plan: LivePlan
    split: SplitCheck
    matured: int
    look: int
    verdict: LiveVerdict
    differences: tuple[ArmDifference, ...] = ()
    paired: PairedDifference | None = None
    granted: tuple[int, int] = (0, 0)
    known: tuple[int, int] = (0, 0)
    explored: tuple[int, int] = (0, 0)


def judge_live(applicants: LiveApplicants, plan: LivePlan, as_of: datetime) -> LiveResult:
    """Judge a test at the looks of its plan; PlanError if the outcomes at one of them are not there yet.

    A look sees the first applicants that its plan names, however many have come since. So the verdict does not depend
    on when it is read, and between two looks no figure is shown.
    """
    split = check_split(applicants, plan.design)
    ripe = (as_of - timedelta(days=plan.design.mature_days)).timestamp() * 1e6
    matured = int(np.searchsorted(applicants.time, ripe, side="right"))
    result = LiveResult(plan, split, matured, 0, LiveVerdict.GO_ON)
    if split.fault is not None:
        return replace(result, verdict=LiveVerdict.BROKEN)
    for number, look in enumerate(plan.planned, start=1):
        if look.applicants > matured or result.verdict is not LiveVerdict.GO_ON:
            break
        result = _at_look(result, applicants.first(look.applicants), number, look)
    return result


def _at_look(result: LiveResult, seen: LiveApplicants, number: int, look: PlannedLook) -> LiveResult:
    design = result.plan.design
    if design.metric is not LiveMetric.APPROVALS:
        _refuse_stale(seen, number)
    differences = tuple(arm_difference(seen, design, metric, look.bound) for metric in LiveMetric)
    planned = next(each for each in differences if each.metric is design.metric)
    return replace(
        result,
        look=number,
        verdict=_verdict(planned.z * design.metric.better, design, look, last=number == len(result.plan.planned)),
        differences=differences,
        paired=paired_difference(seen, design, look.bound),
        granted=_by_arm(seen.approved, seen.arm),
        known=_by_arm(seen.known & seen.approved, seen.arm),
        explored=_by_arm(seen.explored, seen.arm),
    )


def _verdict(z: float, design: LiveDesign, look: PlannedLook, *, last: bool) -> LiveVerdict:
    if z > look.bound:
        return LiveVerdict.BETTER
    if z < -look.bound and design.sides == 2:
        return LiveVerdict.WORSE
    return LiveVerdict.NOTHING if last else LiveVerdict.GO_ON


def _refuse_stale(seen: LiveApplicants, number: int) -> None:
    """PlanError if far fewer outcomes are known of the newest tenth of the approved than of the others."""
    known = seen.known[seen.approved]
    newest = known[-max(len(known) // 10, 1) :]
    if not known.any() or newest.mean() < known.mean() / 2:
        raise PlanError(f"look {number}: outcomes of its newest applicants are missing: give a newer --outcomes file")


def _by_arm(chosen: NDArray[np.bool_], arm: NDArray[np.int8]) -> tuple[int, int]:
    return int(np.count_nonzero(chosen & (arm == 0))), int(np.count_nonzero(chosen & (arm == 1)))


BROKEN_SPLIT = 3
"""Exit code of a result that says no more than that the split is broken."""


def report_result(
    *, plan: Path, log: Path, outcomes: Path | None, shadow: Path | None, until: datetime | None,
    as_of: datetime | None, found: Path | None,
) -> int:  # fmt: skip
    """Print the result of a live test, and write it to `found`; 3 if its split is broken, else 0."""
    loaded = LivePlan.load(plan)
    design = loaded.design
    if outcomes is None and design.metric is not LiveMetric.APPROVALS:
        raise PlanError(f"{plan}: the metric {design.metric} needs --outcomes")
    known = None if outcomes is None else read_outcomes(outcomes, stated_hash(os.environ))
    decided = DecisionLogReader(log, None, design.starts, until)
    shadowed = None if shadow is None else DecisionLogReader(shadow, None, design.starts, until)
    with Progress().step("decisions") as advance:
        applicants = read_applicants(decided, design, known, shadowed, advance)
    remarks = [*decided.remarks(), *(shadowed.remarks() if shadowed else [])]
    sys.stderr.write("".join(f"warning: {line}\n" for line in remarks))
    result = judge_live(applicants, loaded, as_of or datetime.now(UTC))
    if found is not None:
        write_json(found, result_json(result))
    say(result_lines(result))
    return BROKEN_SPLIT if result.verdict is LiveVerdict.BROKEN else 0


def result_lines(result: LiveResult) -> Iterator[str]:
    """The result in lines, the verdict last."""
    plan, split = result.plan, result.split
    design = plan.design
    yield f"live test {design.name}, plan {plan.digest[:12]}: {design.metric} by the rule {design.rule}"
    champion, challenger = split.applicants
    yield (
        f"split: {champion:,} applicants had {design.champion} and {challenger:,} {design.challenger}, planned"
        f" {design.shares[0]:g} to {design.shares[1]:g}; p-value {split.p_value:.4f}"
    )
    yield (
        f"left out: {split.repeated:,} later decisions of the same clients, {split.nameless:,} without a client;"
        f" {split.crossed:,} clients have decisions of both variants and count for the first"
    )
    yield from _figure_lines(result)
    yield f"{result.verdict}{f': {split.fault}' if split.fault else ''}"


def _figure_lines(result: LiveResult) -> Iterator[str]:
    planned, design = result.plan.planned, result.plan.design
    if result.verdict is LiveVerdict.GO_ON and result.look < len(planned):
        yield f"next look: at {planned[result.look].applicants:,} applicants with outcome; {result.matured:,} are there"
    if not result.look:
        return
    look = planned[result.look - 1]
    yield f"look {result.look} of {len(planned)}, at {look.applicants:,} applicants; intervals of {look.bound:g} errors"
    cells = [
        (str(one.metric), f"{one.champion:.4f}", f"{one.challenger:.4f}", str(one.estimate))
        for one in result.differences
    ]
    head = ("figure", design.champion, design.challenger, "challenger less champion")
    yield from (f"  {line}" for line in table([head, *cells], right={1, 2, 3}))
    granted = ", ".join(f"{known:,} of {count:,}" for known, count in zip(result.known, result.granted, strict=True))
    yield f"  known outcomes of approved applicants: {granted}; default rates are of different applicants"
    if any(result.explored):
        yield f"  approved at random, counted as declined: {' and '.join(f'{count:,}' for count in result.explored)}"
    if result.paired:
        yield from _paired_lines(result.paired)


def _paired_lines(paired: PairedDifference) -> Iterator[str]:
    yield (
        f"  both variants on the same {paired.rows:,} applications: {paired.gained:,} approved by the challenger alone,"
        f" {paired.lost:,} by the champion alone; approvals {paired.approvals}"
    )
    if paired.profit is None:
        yield "  no paired profit: only one variant's applicants have the other's shadow records"
    else:
        yield f"  paired profit: {paired.profit}"


def result_json(result: LiveResult) -> dict[str, Any]:
    """The result in JSON-ready form; what is not known or has no bound is null."""
    values = asdict(replace(result, plan=result.plan.digest))  # type: ignore[arg-type]  # a digest names the plan
    plain: dict[str, Any] = without_nan(values)
    return plain
