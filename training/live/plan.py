"""The plan of a live test of two models: what it compares, how many applicants it needs, and when it may stop.

All of this is fixed before the first decision. A plan file holds it with a digest, and the result keeps to it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field
from scipy.optimize import brentq
from scipy.stats import norm

from decision_log.format import CHAMPION
from jobs.commandline import say
from jobs.output import write_json
from jobs.settings import SETTINGS_BYTES, Settings, read_regular
from training.errors import PlanError
from training.settings import TrainingSettings

Floats = NDArray[np.float64]
CHALLENGER = "challenger"
_LOOKS = 5


class LiveMetric(StrEnum):
    """The figure that a live test compares, one for each applicant."""

    DEFAULT_RATE = "default_rate"
    """Defaults among the applicants whose outcome is known; lower is better."""
    PROFIT = "profit"
    """Of each applicant received: `cost_fp` for a loan that is repaid, `-cost_fn` for one that is not, 0 for none."""
    APPROVALS = "approvals"
    """Applicants who are approved, of all received; higher is better."""

    @property
    def better(self) -> int:
        """The sign of a difference, challenger less champion, that speaks for the challenger."""
        return -1 if self is LiveMetric.DEFAULT_RATE else 1


class StoppingRule(StrEnum):
    """When a test may end."""

    FIXED = "fixed"
    """After all planned applicants, and not before."""
    OBRIEN_FLEMING = "obrien-fleming"
    """At the first of several looks whose difference is beyond its bound: O'Brien and Fleming's, by spending alpha."""


class AssumedFigures(Settings):
    """What is known of the champion before the test."""

    default_rate: float = Field(gt=0, lt=1)
    """Of the approved."""
    approval_share: float = Field(gt=0, le=1)
    cost_fn: float = Field(gt=0)
    cost_fp: float = Field(gt=0)

    def variance(self, metric: LiveMetric, difference: float) -> float:
        """The variance of the figure of one applicant; of two variants that differ so, the larger one."""
        granted, bad = self.approval_share, self.default_rate
        if metric is LiveMetric.PROFIT:
            mean = granted * ((1 - bad) * self.cost_fp - bad * self.cost_fn)
            return granted * ((1 - bad) * self.cost_fp**2 + bad * self.cost_fn**2) - mean**2
        share = bad if metric is LiveMetric.DEFAULT_RATE else granted
        within = [p for p in (share - difference, share, share + difference) if 0 < p < 1]
        return max((p * (1 - p) for p in within), default=0.0)

    def counted(self, metric: LiveMetric) -> float:
        """The share of the applicants who have the figure."""
        return self.approval_share if metric is LiveMetric.DEFAULT_RATE else 1.0


class PlannedLook(Settings):
    """One look at the outcomes: after how many applicants, which z ends the test, and the alpha spent by then."""

    applicants: int = Field(ge=2)
    bound: float = Field(gt=0)
    alpha: float = Field(gt=0, lt=1)


class LiveDesign(Settings):
    """What a person decides before the test; all else of a plan follows from it.

    Attributes
    ----------
    shares : of all clients, that each variant decides for; those of a third variant are nobody's
    starts : decisions before then are not of the test
    difference : the smallest one that matters, in units of the metric
    sides : 1 asks whether the challenger is better, 2 also whether it is worse
    applicants_per_day : expected, of all variants
    mature_days : from a decision until its outcome counts as known
    """

    name: str = Field(min_length=1)
    champion: str = CHAMPION
    challenger: str = CHALLENGER
    shares: tuple[float, float]
    starts: AwareDatetime
    metric: LiveMetric
    difference: float = Field(gt=0)
    sides: Literal[1, 2] = 2
    alpha: float = Field(gt=0, lt=0.5)
    power: float = Field(gt=0.5, lt=1)
    rule: StoppingRule
    looks: int = Field(ge=1, le=20)
    assumed: AssumedFigures
    applicants_per_day: float = Field(gt=0)
    mature_days: float = Field(ge=0)

    def plan(self) -> LivePlan:
        """Compute sizes and bounds; PlanError if the design contradicts itself."""
        self._refuse_contradictions()
        bounds = look_bounds(self.looks, self.alpha, self.sides)
        applicants = self._applicants(bounds)
        steps = range(1, self.looks + 1)
        spent = [alpha_spent(step / self.looks, self.alpha, self.sides) for step in steps]
        planned = tuple(
            PlannedLook(
                applicants=math.ceil(applicants * step / self.looks),
                bound=round(bound, 4),
                alpha=float(f"{used:.6g}"),  # a first look spends so little that six decimals can be 0
            )
            for step, bound, used in zip(steps, bounds, spent, strict=True)
        )
        days = math.ceil(applicants / (self.applicants_per_day * sum(self.shares)))
        plan = LivePlan(design=self, planned=planned, days=days, digest="")
        return plan.model_copy(update={"digest": _digest(plan.model_dump(mode="json"))})

    def _applicants(self, bounds: Floats) -> int:
        """How many reach the power: information must be (drift / difference) squared, and each applicant gives some."""
        both = self.sides == 2
        drift = float(brentq(lambda mean: crossing_chance(bounds, mean, two_sided=both) - self.power, 0.0, 50.0))
        champion, challenger = (share / sum(self.shares) for share in self.shares)
        each = self.assumed.variance(self.metric, self.difference) / self.assumed.counted(self.metric)
        return math.ceil(each * (1 / champion + 1 / challenger) * (drift / self.difference) ** 2)

    def _refuse_contradictions(self) -> None:
        if self.champion == self.challenger:
            raise PlanError(f"{self.champion}: a test needs two variants")
        if not (min(self.shares) > 0 and sum(self.shares) <= 1 + 1e-9):
            raise PlanError("shares: both must be above 0, and together at most 1")
        if (self.looks == 1) != (self.rule is StoppingRule.FIXED):
            raise PlanError(f"looks: the rule {StoppingRule.FIXED} has 1, and {StoppingRule.OBRIEN_FLEMING} at least 2")
        if self.metric is not LiveMetric.PROFIT and not self._room():
            raise PlanError(f"difference: {self.difference:g} is too much for the assumed {self.metric}")

    def _room(self) -> bool:
        share = self.assumed.default_rate if self.metric is LiveMetric.DEFAULT_RATE else self.assumed.approval_share
        better = share + self.metric.better * self.difference
        return 0 < better < 1


class LivePlan(Settings):
    """A plan as its file holds it.

    Attributes
    ----------
    planned : the looks at outcomes; there are no others
    days : expected, until the last planned applicant has applied; the outcome matures later
    digest : SHA-256 of all else
    """

    design: LiveDesign
    planned: tuple[PlannedLook, ...]
    days: int
    digest: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan; PlanError if it was changed, or is not the one that its design gives."""
        plan = cls.checked(_json_of(path), path)
        if plan.digest != _digest(plan.model_dump(mode="json")):
            raise PlanError(f"{path}: was changed after it was written: its digest is another")
        due = plan.design.plan()
        if plan != due:
            raise PlanError(f"{path}: its looks are not those that its design gives: the rule of a test is not changed")
        return plan

    def write(self, path: Path) -> None:
        """Write the plan as JSON; PlanError if the file is there, since a plan is never replaced."""
        if path.exists():
            raise PlanError(f"{path}: is there already, and a plan is not changed: name another file")
        write_json(path, self.model_dump(mode="json"))


def _json_of(path: Path) -> Any:
    # Not read as YAML, to which a number such as 1e-06 is text.
    try:
        return json.loads(read_regular(path, SETTINGS_BYTES))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise PlanError(f"{path}: not JSON") from None


def write_plan(
    *, output: Path, share: float, champion_share: float | None, looks: int | None, settings: Path,
    cost_fn: float | None, cost_fp: float | None, default_rate: float, approval_share: float, starts: datetime,
    **design: Any,
) -> None:  # fmt: skip
    """Plan a live test, write the plan and say what it needs; costs that are not given are those of the settings."""
    costs = TrainingSettings.load(settings).policy
    assumed = {
        "default_rate": default_rate,
        "approval_share": approval_share,
        "cost_fn": costs.cost_fn if cost_fn is None else cost_fn,
        "cost_fp": costs.cost_fp if cost_fp is None else cost_fp,
    }
    shares = [1 - share if champion_share is None else champion_share, share]
    several = 1 if design["rule"] == StoppingRule.FIXED else _LOOKS
    content = {
        **design, "shares": shares, "looks": several if looks is None else looks, "assumed": assumed,
        "starts": starts.isoformat(),
    }  # fmt: skip
    plan = LiveDesign.checked(content, Path("plan-test")).plan()
    plan.write(output)
    say(plan_lines(plan))


def plan_lines(plan: LivePlan) -> Iterator[str]:
    """The plan in lines."""
    design = plan.design
    sides = "better or worse" if design.sides == 2 else "better"
    yield f"live test {design.name}: is {design.challenger} {sides} than {design.champion} by {design.metric}?"
    yield (
        f"a difference of {design.difference:g} is found with a probability of {design.power:g}; of no difference a"
        f" verdict comes with {design.alpha:g} at most"
    )
    yield f"{plan.planned[-1].applicants:,} applicants, {plan.days:,} days of traffic, and {design.mature_days:g} more"
    for number, look in enumerate(plan.planned, start=1):
        yield f"  look {number}: after {look.applicants:,} applicants; beyond {look.bound:g} standard errors it ends"
    yield f"digest {plan.digest}"


def _digest(values: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in values.items() if name != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def alpha_spent(share: float, alpha: float, sides: int) -> float:
    """The alpha that may be spent when this share of the information is there.

    K. Lan and D. DeMets, Biometrika 70, 1983: the function that follows O'Brien and Fleming's bounds.

    >>> round(alpha_spent(0.5, 0.05, 2), 5), alpha_spent(1.0, 0.05, 2)
    (0.00305, 0.05)
    """
    each = alpha / sides
    return alpha if share >= 1 else float(2 * sides * norm.sf(norm.isf(each / 2) / math.sqrt(share)))


def look_bounds(looks: int, alpha: float, sides: int) -> Floats:
    """The z-value at each of equally spaced looks whose excess ends the test, shape (looks,).

    >>> look_bounds(1, 0.05, 2).round(3).tolist(), look_bounds(2, 0.05, 2).round(3).tolist()
    ([1.96], [2.963, 1.969])
    """
    walk, bounds, before = _Walk(looks, 0.0, two_sided=sides == 2), [], 0.0
    for step in range(1, looks + 1):
        spent = alpha_spent(step / looks, alpha, sides) / sides
        due = spent - before
        found = float(brentq(lambda bound: walk.beyond(bound) - due, -1.0, 40.0))  # noqa: B023 - called at once
        walk.go_on(found)
        bounds.append(found)
        before = spent
    return np.array(bounds)


def crossing_chance(bounds: Floats, drift: float, *, two_sided: bool) -> float:
    """The probability that z is beyond its upper bound at some look, where its mean at the last one is `drift`."""
    walk, chance = _Walk(len(bounds), drift, two_sided=two_sided), 0.0
    for bound in bounds:
        chance += walk.beyond(bound)
        walk.go_on(bound)
    return chance


class _Walk:
    """The sum behind z over the looks, of tests that have not ended: points, and the probability of each.

    P. Armitage, C. McPherson and B. Rowe, JRSS A 132, 1969: it walks by independent normal steps.
    """

    _POINTS = 401

    def __init__(self, looks: int, drift: float, *, two_sided: bool) -> None:
        self._step, self._look, self._drift, self._two_sided = 1 / looks, 0, drift, two_sided
        self._points, self._weights = np.zeros(1), np.ones(1)

    def beyond(self, bound: float) -> float:
        """The probability to be above this z at the next look."""
        limit = bound * math.sqrt((self._look + 1) * self._step)
        moved = (limit - self._points - self._drift * self._step) / math.sqrt(self._step)
        return float((self._weights * norm.sf(moved)).sum())

    def go_on(self, bound: float) -> None:
        """Take the next step, and end the tests beyond the bound."""
        self._look += 1
        time = self._look * self._step
        high = bound * math.sqrt(time)
        low = -high if self._two_sided else min(self._drift * time, 0.0) - 8 * math.sqrt(time)
        points, width = np.linspace(low, high, self._POINTS, retstep=True)
        weights = np.full(self._POINTS, width)
        weights[[0, -1]] /= 2
        moved = (points[:, np.newaxis] - self._points - self._drift * self._step) / math.sqrt(self._step)
        density = np.exp(-moved * moved / 2) @ self._weights / math.sqrt(2 * math.pi * self._step)
        self._points, self._weights = points, weights * density
