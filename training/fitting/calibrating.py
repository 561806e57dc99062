"""Fitting the calibration on out-of-fold margins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scoring import Calibration
from training.errors import CalibrationError
from training.evaluation import fit_line

from .cross_validation import CrossValidation

Margins = NDArray[np.float64]
Target = NDArray[np.int64]


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
