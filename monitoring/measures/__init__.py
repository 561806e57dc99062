"""Measures of PDs against outcomes, with their sampling error: of a new model in training and of decisions later."""

from __future__ import annotations

from .calibration_line import LogisticLine, fit_line
from .impact import Group, ImpactRatio
from .metrics import (
    Estimate,
    auc,
    auc_difference,
    auc_estimate,
    grouped_auc_estimate,
    normal_estimate,
    share_estimate,
)
from .ranking import Ranking, f_score

__all__ = [
    "Estimate",
    "Group",
    "ImpactRatio",
    "LogisticLine",
    "Ranking",
    "auc",
    "auc_difference",
    "auc_estimate",
    "f_score",
    "fit_line",
    "grouped_auc_estimate",
    "normal_estimate",
    "share_estimate",
]
