"""Cut-offs: the one the costs imply, and the ones a search on the same rows would pick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring import DecisionPolicy
from training.settings import PolicySettings


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut-off, how it was found, and what it would cost per applicant on these rows."""

    method: str
    cutoff: float
    cost_per_applicant: float
    f_beta: float


def bayes_cutoff(cost_fn: float, cost_fp: float) -> float:
    """The cut-off on a calibrated PD that minimizes expected cost: cost_fp / (cost_fp + cost_fn).

    Source: C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.

    >>> bayes_cutoff(10, 1) == 1 / 11
    True
    """
    return cost_fp / (cost_fp + cost_fn)


def decision_policy(settings: PolicySettings) -> DecisionPolicy:
    """The policy that costs and bands imply."""
    cutoff = bayes_cutoff(settings.cost_fn, settings.cost_fp)
    return DecisionPolicy(
        cutoff=cutoff,
        refer_from=cutoff * (1 - settings.refer_band),
        refer_to=min(1.0, cutoff * (1 + settings.refer_band)),
        level_bounds=settings.level_bounds,
        cost_fn=settings.cost_fn,
        cost_fp=settings.cost_fp,
        scale=settings.scale.build(),
        completeness=None if settings.completeness is None else settings.completeness.build(),
    )


def thresholds(
    target: NDArray[np.int64], probability: NDArray[np.float64], policy: DecisionPolicy, beta: float
) -> tuple[Threshold, ...]:
    """The policy's cut-off, the cheapest cut-off on these rows, and the one with the best F-beta on them.

    The last two are chosen on the rows they are judged on: reported for comparison, never used.
    """
    search = _Search.of(target, probability, policy, beta)
    at_policy = int(np.searchsorted(-search.cutoffs, -policy.cutoff, side="right")) - 1
    return (
        Threshold("bayes", policy.cutoff, *search.judged(at_policy)),
        search.threshold("grid_search", int(np.argmin(search.cost))),
        search.threshold("f_beta", int(np.argmax(search.f_beta))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """Cost per applicant and F-beta at every distinct cut-off, falling; the first declines nobody."""

    cutoffs: NDArray[np.float64]
    cost: NDArray[np.float64]
    f_beta: NDArray[np.float64]

    @classmethod
    def of(
        cls, target: NDArray[np.int64], probability: NDArray[np.float64], policy: DecisionPolicy, beta: float
    ) -> _Search:
        order = np.argsort(-probability, kind="stable")
        falling, outcomes = probability[order], target[order]
        last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        hits = np.append(0, np.cumsum(outcomes)[last])
        alarms = np.append(0, np.cumsum(1 - outcomes)[last])
        missed = hits[-1] - hits
        weighted = (1 + beta * beta) * hits
        return cls(
            cutoffs=np.append(1.0, falling[last]),
            cost=(policy.cost_fn * missed + policy.cost_fp * alarms) / len(target),
            f_beta=weighted / (weighted + beta * beta * missed + alarms),
        )

    def judged(self, position: int) -> tuple[float, float]:
        return float(self.cost[position]), float(self.f_beta[position])

    def threshold(self, method: str, position: int) -> Threshold:
        return Threshold(method, float(self.cutoffs[position]), *self.judged(position))
