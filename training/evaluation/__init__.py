"""What a model is worth: metrics with intervals, cut-offs, approval ratios."""

from __future__ import annotations

from .calibration_line import fit_line
from .evaluation import Evaluation, evaluate
from .fairness import Group, ImpactRatio, group_lines, groups_by_age, groups_by_sex, ratio_by_sex, ratio_of_elderly
from .metrics import Estimate, auc, auc_difference, auc_estimate, normal_estimate
from .ranking import Ranking
from .thresholds import decision_policy

__all__ = [
    "Estimate",
    "Evaluation",
    "Group",
    "ImpactRatio",
    "Ranking",
    "auc",
    "auc_difference",
    "auc_estimate",
    "decision_policy",
    "evaluate",
    "fit_line",
    "group_lines",
    "groups_by_age",
    "groups_by_sex",
    "normal_estimate",
    "ratio_by_sex",
    "ratio_of_elderly",
]
