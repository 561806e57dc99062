"""Measures of a model on known outcomes: discrimination, calibration, cost and approvals, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.linear_model import LogisticRegression

from scoring.model import Calibration
from scoring.policy import DecisionPolicy

Target = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def auc(target: Target, scores: Scores) -> float:
    """Area under the ROC curve; ties count half.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    beaten, _ = _placements(target, scores[np.newaxis])
    return float(beaten.mean())


def auc_estimate(target: Target, scores: Scores, confidence: float) -> Estimate:
    """AUC with DeLong's interval.

    Source: E. DeLong, D. DeLong and D. Clarke-Pearson, Biometrics 44, 1988; computed from midranks as in X. Sun and
    W. Xu, IEEE Signal Processing Letters 21, 2014.
    """
    # DeLong's variance comes from ranks that the AUC needs anyway; a bootstrap would rank the rows for each draw.
    areas, covariance = _delong(target, scores[np.newaxis])
    return normal_estimate(float(areas[0]), float(np.sqrt(covariance[0, 0])), confidence)


def auc_difference(target: Target, first: Scores, second: Scores, confidence: float) -> Estimate:
    """AUC of `first` minus AUC of `second` on the same rows, with DeLong's paired interval."""
    areas, covariance = _delong(target, np.stack([first, second]))
    # Two models on the same rows are wrong about the same applicants. The paired variance counts that, whereas two
    # intervals side by side would hide a difference that is there.
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return normal_estimate(float(areas[0] - areas[1]), float(np.sqrt(max(variance, 0.0))), confidence)


def grouped_auc_estimate(bad: Scores, good: Scores, confidence: float) -> Estimate:
    """AUC with DeLong's interval from the numbers of defaults and good rows in groups of rising PD, shape (k,).

    Rows of one group count as tied. NaN throughout without two rows of either outcome.
    """
    bads, goods = bad.sum(), good.sum()
    if min(bads, goods) < 2:
        return Estimate(np.nan, np.nan, np.nan)
    beaten = (np.cumsum(good) - good / 2) / goods
    beating = 1 - (np.cumsum(bad) - bad / 2) / bads
    area = float((bad * beaten).sum() / bads)
    variance = (bad * (beaten - area) ** 2).sum() / (bads - 1) / bads
    variance += (good * (beating - area) ** 2).sum() / (goods - 1) / goods
    return normal_estimate(area, float(np.sqrt(variance)), confidence)


def normal_estimate(value: float, error: float, confidence: float) -> Estimate:
    """The estimate whose sampling error is normal with standard deviation `error`."""
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    return Estimate(value, value - half, value + half)


def share_estimate(hits: int, trials: int, confidence: float) -> Estimate:
    """A share with Wilson's interval (E. Wilson, JASA 22, 1927); NaN throughout for no trials.

    >>> share_estimate(0, 10, 0.95).low
    0.0
    >>> share_estimate(10, 10, 0.95).high
    1.0
    """
    if trials == 0:
        return Estimate(np.nan, np.nan, np.nan)
    # A normal interval would have no width at a share of 0 or 1, which small groups often have.
    z = float(norm.ppf(0.5 + confidence / 2))
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding may leave the share itself outside, where all or none of the trials are hits.
    return Estimate(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


def _delong(target: Target, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUCs, shape (k,), and their covariance, shape (k, k), for `scores` of shape (k, n)."""
    beaten, beating = _placements(target, scores)
    covariance = np.cov(beaten) / beaten.shape[1] + np.cov(beating) / beating.shape[1]
    return beaten.mean(axis=1), np.atleast_2d(covariance)


def _placements(target: Target, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each default the share of good rows it outranks, shape (k, bad), and the reverse, shape (k, good)."""
    positive, negative = scores[:, target == 1], scores[:, target == 0]
    bad, good = positive.shape[1], negative.shape[1]
    joint = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    beaten = (joint[:, :bad] - rankdata(positive, axis=1)) / good
    beating = 1 - (joint[:, bad:] - rankdata(negative, axis=1)) / bad
    return beaten, beating


Weights = NDArray[np.float64]
_SMALLEST = np.finfo(np.float64).tiny


class RankingSettings(Protocol):
    """The settings that the statistics need; those of training and of monitoring both have them."""

    @property
    def f_beta(self) -> float:
        """The beta of F-beta."""

    @property
    def lift_share(self) -> float:
        """The share of rows, those of the highest PD, whose defaults count for the lift."""


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
        """Every statistic but the AUC and the calibration line, with row i counted `weights[i]` times."""
        bad = weights * self.target
        curve = _Curve(np.cumsum(bad)[self.last], np.cumsum(weights - bad)[self.last])
        return {
            **dict(self._probability_statistics(weights)),
            **dict(curve.rank_statistics(settings.lift_share)),
            **dict(self._decision_statistics(weights, policy, settings.f_beta)),
        }

    def chance_ece(self, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
        """The ECE that right PDs have by chance: that of outcomes drawn from them, shape (draws,)."""
        expected, rows = np.bincount(self.bins, self.probability), len(self.target)
        found = [np.bincount(self.bins, random.random(rows) < self.probability) for _ in range(draws)]
        return np.asarray(np.abs(expected - np.array(found)).sum(axis=1) / rows, dtype=np.float64)

    def _probability_statistics(self, weights: Weights) -> Iterator[tuple[str, float]]:
        p, y, total = self.probability, self.target, weights.sum()
        # a certain PD that is wrong has an infinite loss, and one such row would hide all others
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


Margins = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LogisticLine:
    """A logistic regression of the outcome on one variable, with the standard errors of its two parameters."""

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float


def fit_line(values: Margins, target: Target, weights: Margins | None = None) -> LogisticLine:
    """The maximum-likelihood line; `values` and `target` of shape (n,), row i counted `weights[i]` times.

    NaN where the values are all the same.
    """
    if np.ptp(values) == 0:
        return LogisticLine(np.nan, np.nan, np.nan, np.nan)
    # scikit-learn shrinks the slope unless C is infinite, and gives no standard errors: those come from the information
    # matrix below.
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(values[:, np.newaxis], target, weights)
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    probabilities = Calibration(slope=1.0, intercept=0.0).probabilities(slope * values + intercept)
    variance = probabilities * (1 - probabilities) * (1.0 if weights is None else weights)
    cross = (variance * values).sum()
    information = np.array([[(variance * values * values).sum(), cross], [cross, variance.sum()]])
    slope_error, intercept_error = np.sqrt(np.diag(np.linalg.inv(information)))
    return LogisticLine(slope, intercept, float(slope_error), float(intercept_error))


@dataclass(frozen=True, slots=True)
class Group:
    """The numbers of applicants and of approvals in one protected group."""

    attribute: str
    name: str
    rows: int
    approved: int

    @classmethod
    def of(cls, attribute: str, name: str, members: NDArray[np.bool_], approved: NDArray[np.bool_]) -> Self:
        """The group of the rows that are `members`, both arrays of shape (n,)."""
        return cls(attribute, name, int(np.count_nonzero(members)), int(np.count_nonzero(members & approved)))

    @property
    def share(self) -> float:
        """Share of approvals; NaN for no applicants."""
        return self.approved / self.rows if self.rows else np.nan

    def __str__(self) -> str:
        return f"{self.attribute} {self.name}"


@dataclass(frozen=True, slots=True)
class ImpactRatio:
    """Adverse impact ratio: the share of approvals of `group` over that of `reference`."""

    group: Group
    reference: Group

    @property
    def value(self) -> float:
        """The ratio; 1 where neither group has an approval, infinite where only the reference has none."""
        if not self.reference.approved:
            return np.inf if self.group.approved else 1.0
        return self.group.share / self.reference.share

    def estimate(self, confidence: float) -> Estimate:
        """The ratio with its interval on the logarithmic scale; its ends are NaN if either group has no approval.

        Source: D. Katz and others, Biometrics 34, 1978.
        """
        if not (self.group.approved and self.reference.approved):
            return Estimate(self.value, np.nan, np.nan)
        pairs = [(each.approved, each.rows) for each in (self.group, self.reference)]
        error = np.sqrt(sum(1 / approved - 1 / rows for approved, rows in pairs))
        factor = float(np.exp(norm.ppf(0.5 + confidence / 2) * error))
        return Estimate(self.value, self.value / factor, self.value * factor)
