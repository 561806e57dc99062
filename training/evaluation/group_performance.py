"""How a model does on each protected group: approvals, defaults, PDs and ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import Protected
from monitoring.measures import Estimate, Group, ImpactRatio, auc_estimate

from .fairness import most_approved
from .observation import Observation, observe

_Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GroupPerformance:
    """What was observed of one group.

    `impact_ratio` is the group's share of approvals over that of the group of the same attribute that is approved most.
    It and `observed` are None for a group that is too small, `auc` also where too few of either outcome were seen.
    """

    group: Group
    impact_ratio: ImpactRatio | None
    observed: Observation | None
    auc: Estimate | None


def group_performances(
    attribute: Protected,
    members: Mapping[str, _Rows],
    *,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    approved: _Rows,
    min_rows: int,
    min_outcomes: int,
    confidence: float,
) -> tuple[GroupPerformance, ...]:
    """One entry for each group of an attribute; `members` says which of the n rows each group holds."""
    groups = [Group.of(attribute, name, rows, approved) for name, rows in members.items()]
    reference = most_approved(groups, min_rows)

    def performance(group: Group) -> GroupPerformance:
        if reference is None or group.rows < min_rows:
            return GroupPerformance(group, None, None, None)
        rows = members[group.name]
        outcomes = target[rows]
        defaults = int(outcomes.sum())
        judged = min(defaults, len(outcomes) - defaults) >= min_outcomes
        return GroupPerformance(
            group,
            ImpactRatio(group, reference),
            observe(target, probability, rows, confidence),
            auc_estimate(outcomes, probability[rows], confidence) if judged else None,
        )

    return tuple(performance(group) for group in groups)
