"""A logistic regression on one variable: the line that a calibration is, and that judges one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from scoring import Calibration

Margins = NDArray[np.float64]
Target = NDArray[np.int64]


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
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(values[:, np.newaxis], target, weights)
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    probabilities = Calibration(slope=1.0, intercept=0.0).probabilities(slope * values + intercept)
    variance = probabilities * (1 - probabilities) * (1.0 if weights is None else weights)
    cross = (variance * values).sum()
    information = np.array([[(variance * values * values).sum(), cross], [cross, variance.sum()]])
    slope_error, intercept_error = np.sqrt(np.diag(np.linalg.inv(information)))
    return LogisticLine(slope, intercept, float(slope_error), float(intercept_error))
