"""Measures of discrimination with their sampling error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

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
    areas, covariance = _delong(target, scores[np.newaxis])
    return normal_estimate(float(areas[0]), float(np.sqrt(covariance[0, 0])), confidence)


def auc_difference(target: Target, first: Scores, second: Scores, confidence: float) -> Estimate:
    """AUC of `first` minus AUC of `second` on the same rows, with DeLong's paired interval."""
    areas, covariance = _delong(target, np.stack([first, second]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return normal_estimate(float(areas[0] - areas[1]), float(np.sqrt(max(variance, 0.0))), confidence)


def grouped_auc_estimate(bad: Scores, good: Scores, confidence: float) -> Estimate:
    """AUC with DeLong's interval from how many defaults and good rows each group of rising PD has, shape (k,).

    Within a group all count as tied. NaN throughout without two rows of either outcome.
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
    """
    if trials == 0:
        return Estimate(np.nan, np.nan, np.nan)
    z = float(norm.ppf(0.5 + confidence / 2))
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Estimate(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


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
