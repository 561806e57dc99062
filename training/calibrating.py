"""Fitting the calibration on out-of-fold margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from scoring import Calibration

from .crossvalidation import CrossValidation
from .errors import CalibrationError

Margins = NDArray[np.float64]
Target = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LogisticLine:
    """A logistic regression of the outcome on one variable, with the standard errors of its two parameters."""

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float


def fit_line(values: Margins, target: Target) -> LogisticLine:
    """The maximum-likelihood line; `values` and `target` of shape (n,). NaN where the values are all the same."""
    if np.ptp(values) == 0:
        return LogisticLine(np.nan, np.nan, np.nan, np.nan)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(values[:, np.newaxis], target)
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    probabilities = Calibration(slope=1.0, intercept=0.0).probabilities(slope * values + intercept)
    weights = probabilities * (1 - probabilities)
    cross = (weights * values).sum()
    information = np.array([[(weights * values * values).sum(), cross], [cross, weights.sum()]])
    slope_error, intercept_error = np.sqrt(np.diag(np.linalg.inv(information)))
    return LogisticLine(slope, intercept, float(slope_error), float(intercept_error))


def calibrate(margins: Margins, target: Target) -> Calibration:
    """The Platt scaling of out-of-fold margins; CalibrationError if they do not rise with the default rate."""
    line = fit_line(margins, target)
    if not line.slope > 0:
        raise CalibrationError("the model ranks no better than chance on rows it never saw: nothing to calibrate")
    return Calibration(slope=line.slope, intercept=line.intercept)


def cross_calibrated(validation: CrossValidation, target: Target) -> NDArray[np.float64]:
    """Out-of-fold PDs of a cross-validation, shape (n,)."""
    return calibrated_by_fold(validation.margins, target, [fold.judged for fold in validation.folds])


def calibrated_by_fold(margins: Margins, target: Target, judged: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Out-of-fold PDs, shape (n,): each fold's margins calibrated on the margins of the other folds.

    Margins that are all the same tell nothing: everybody gets the default rate.
    """
    if np.ptp(margins) == 0:
        return np.full(len(target), target.mean())
    probabilities = np.empty(len(target))
    for rows in judged:
        others = np.ones(len(target), dtype=np.bool_)
        others[rows] = False
        probabilities[rows] = calibrate(margins[others], target[others]).probabilities(margins[rows])
    return probabilities
