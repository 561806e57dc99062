"""Rows sorted by falling PD: the statistics of one weighting of the rows, so that resampling costs one pass each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scoring import DecisionPolicy

Weights = NDArray[np.float64]
_SMALLEST = np.finfo(np.float64).tiny


class RankingSettings(Protocol):
    """What the statistics ask of whoever's settings."""

    @property
    def f_beta(self) -> float:
        """The beta of F-beta."""

    @property
    def lift_share(self) -> float:
        """Share of the rows, of the highest PD, whose defaults count for the lift."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Outcomes and PDs of n rows, sorted by falling PD.

    Attributes
    ----------
    probability, target : shape (n,)
    last : positions of the last row of each group of equal PDs
    bins : calibration bin of each row, equal-sized groups of rising PD
    """

    probability: NDArray[np.float64]
    target: NDArray[np.int64]
    last: NDArray[np.intp]
    bins: NDArray[np.intp]

    @classmethod
    def of(cls, target: NDArray[np.int64], probability: NDArray[np.float64], bins: int) -> Ranking:
        """The ranking of rows in any order."""
        order = np.argsort(-probability, kind="stable")
        falling = probability[order]
        last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        edges = np.quantile(falling, np.linspace(0, 1, bins + 1)[1:-1])
        return cls(falling, target[order], last, np.searchsorted(edges, falling, side="right"))

    def statistics(self, weights: Weights, policy: DecisionPolicy, settings: RankingSettings) -> dict[str, float]:
        """Every statistic but the AUC and the calibration line, the row i counted `weights[i]` times."""
        bad = weights * self.target
        curve = _Curve(np.cumsum(bad)[self.last], np.cumsum(weights - bad)[self.last])
        return {
            **dict(self._probability_statistics(weights)),
            **dict(curve.rank_statistics(settings.lift_share)),
            **dict(self._decision_statistics(weights, policy, settings.f_beta)),
        }

    def _probability_statistics(self, weights: Weights) -> Iterator[tuple[str, float]]:
        p, y, total = self.probability, self.target, weights.sum()
        likelihood = np.maximum(np.where(y == 1, p, 1 - p), _SMALLEST)
        yield "brier", float((weights * (p - y) ** 2).sum() / total)
        yield "log_loss", float(-(weights * np.log(likelihood)).sum() / total)
        gap = np.bincount(self.bins, weights * (p - y))
        yield "ece", float(np.abs(gap).sum() / total)

    def _decision_statistics(
        self, weights: Weights, policy: DecisionPolicy, beta: float
    ) -> Iterator[tuple[str, float]]:
        declined = self.probability >= policy.cutoff
        bad, good = weights * self.target, weights * (1 - self.target)
        hit, false_alarm = bad[declined].sum(), good[declined].sum()
        missed, total = bad[~declined].sum(), weights.sum()
        cost = (policy.cost_fn * missed + policy.cost_fp * false_alarm) / total
        approve_all, decline_all = policy.cost_fn * bad.sum() / total, policy.cost_fp * good.sum() / total
        yield "precision", float(hit / max(hit + false_alarm, _SMALLEST))
        yield "recall", float(hit / bad.sum())
        yield "f1", f_score(hit, false_alarm, missed, 1.0)
        yield "f_beta", f_score(hit, false_alarm, missed, beta)
        yield "declined_share", float((hit + false_alarm) / total)
        yield "cost_per_applicant", float(cost)
        yield "cost_approve_all", float(approve_all)
        yield "cost_ratio", float(cost / min(approve_all, decline_all))


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """Weights of bad and good rows at or above each distinct PD, shape (k,)."""

    bad: Weights
    good: Weights

    def rank_statistics(self, share: float) -> Iterator[tuple[str, float]]:
        recall, false_alarms = self.bad / self.bad[-1], self.good / self.good[-1]
        counted = self.bad + self.good
        precision = self.bad / np.maximum(counted, _SMALLEST)
        yield "ks", float(np.max(recall - false_alarms))
        yield "average_precision", float((np.diff(recall, prepend=0.0) * precision).sum())
        captured = np.interp(share * counted[-1], np.append(0.0, counted), np.append(0.0, recall))
        yield "lift", float(captured / share)


def f_score(hits: float, false_alarms: float, missed: float, beta: float) -> float:
    """F-beta from counts; 0 where nothing was hit."""
    weighted = (1 + beta * beta) * hits
    return float(weighted / max(weighted + beta * beta * missed + false_alarms, _SMALLEST))
