"""Fitting: trees, cross-validation, calibration, one trained model and what drives it."""

from __future__ import annotations

from .booster import fit_early_stopped, margins_of, parameters, stoppable
from .calibrating import calibrated_by_fold
from .cross_validation import fit_state, splits
from .interpretation import Dependence, Interpretation, Point
from .trainer import TrainedModel, lineage, train

__all__ = [
    "Dependence",
    "Interpretation",
    "Point",
    "TrainedModel",
    "calibrated_by_fold",
    "fit_early_stopped",
    "fit_state",
    "lineage",
    "margins_of",
    "parameters",
    "splits",
    "stoppable",
    "train",
]
