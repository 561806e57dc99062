"""What a model is worth: metrics with intervals, cut-offs, approval ratios."""

from __future__ import annotations

from monitoring.measures import (
    Estimate,
    Group,
    ImpactRatio,
    Ranking,
    auc,
    auc_difference,
    auc_estimate,
    fit_line,
    normal_estimate,
)

from .evaluation import Evaluation, Level, evaluate
from .fairness import (
    group_lines,
    groups_by_age,
    groups_by_sex,
    members_by_age,
    members_by_level,
    ratio_by_sex,
    ratio_of_elderly,
)
from .group_performance import GroupPerformance, group_performances
from .observation import Observation, observe, observe_bands
from .thresholds import Threshold, decision_policy

__all__ = [
    "Estimate",
    "Evaluation",
    "Group",
    "GroupPerformance",
    "ImpactRatio",
    "Level",
    "Observation",
    "Ranking",
    "Threshold",
    "auc",
    "auc_difference",
    "auc_estimate",
    "decision_policy",
    "evaluate",
    "fit_line",
    "group_lines",
    "group_performances",
    "groups_by_age",
    "groups_by_sex",
    "members_by_age",
    "members_by_level",
    "normal_estimate",
    "observe",
    "observe_bands",
    "ratio_by_sex",
    "ratio_of_elderly",
]
