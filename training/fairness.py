"""Fairness screening counts approvals by protected group.

The protected attributes are read from the raw rows and never by the model. A low adverse impact ratio is a signal to
look closer, not a verdict: groups differ in risk, and no lending regulator has made the four fifths a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.application import APPLICATION
from features.schema import ProtectedAttribute
from features.transformer import Columns
from monitoring.measures import Estimate, Group, ImpactRatio, auc_estimate
from training.evaluation import Observation, observe

_Rows = NDArray[np.bool_]
_DAYS_PER_YEAR = 365.25


def members_by_level(columns: Columns, attribute: ProtectedAttribute) -> dict[str, _Rows]:
    """Mark the rows that state each declared level of a protected category, in the declaration's order."""
    column = next(column for column in APPLICATION.categorical if column.protected is attribute)
    stated = columns.levels[:, APPLICATION.position[column.name]]
    return {level: np.asarray(stated == level) for level in column.levels}


def members_by_age(columns: Columns, bounds: Sequence[int]) -> dict[str, _Rows]:
    """Mark the rows of each age band, from youngest to oldest; each of `bounds` is the first year of a band."""
    column = next(column for column in APPLICATION.numeric if column.protected is ProtectedAttribute.AGE)
    # Home Credit states the date of birth in days before the application, so it is negative.
    years = -columns.numbers[:, APPLICATION.position[column.name]] / _DAYS_PER_YEAR
    ends = zip([-np.inf, *bounds], [*bounds, np.inf], strict=True)
    return {_band(low, high): (years >= low) & (years < high) for low, high in ends}


def groups_by_sex(columns: Columns, approved: _Rows) -> tuple[Group, ...]:
    """Count approvals by declared sex, in the declaration's order; `approved` is bool of shape (len(columns),)."""
    return _groups(ProtectedAttribute.SEX, members_by_level(columns, ProtectedAttribute.SEX), approved)


def groups_by_age(columns: Columns, approved: _Rows, bounds: Sequence[int]) -> tuple[Group, ...]:
    """Count approvals by age band, from youngest to oldest; each of `bounds` is the first year of a band."""
    return _groups(ProtectedAttribute.AGE, members_by_age(columns, bounds), approved)


def most_approved(groups: Sequence[Group], min_rows: int) -> Group | None:
    """Find the most approved group of at least `min_rows` rows; None if there is none."""
    # The reference group of the four-fifths rule is the one with the highest rate (29 CFR 1607.4(D)).
    return max((group for group in groups if group.rows >= min_rows), key=lambda group: group.share, default=None)


def ratio_by_sex(groups: Sequence[Group], min_rows: int) -> ImpactRatio | None:
    """Compare the least approved sex with the most approved one; None unless two have `min_rows` rows."""
    large = sorted((group for group in groups if group.rows >= min_rows), key=lambda group: group.share)
    return ImpactRatio(large[0], large[-1]) if len(large) > 1 else None


def ratio_of_elderly(groups: Sequence[Group], min_rows: int) -> ImpactRatio | None:
    """Compare the oldest age band with all younger applicants; None if either has fewer than `min_rows` rows.

    Regulation B lets a system weigh age if the age of the elderly, 62 or older, is not held against them
    (12 CFR 1002.2(o) and 1002.6(b)(2)).
    """
    *younger, oldest = groups
    reference = Group(
        ProtectedAttribute.AGE,
        "younger",
        sum(group.rows for group in younger),
        sum(group.approved for group in younger),
    )
    return ImpactRatio(oldest, reference) if min(oldest.rows, reference.rows) >= min_rows else None


def group_lines(groups: Sequence[Group]) -> Iterator[str]:
    """Format the groups, one line each."""
    for group in groups:
        yield f"  {group!s:30} {group.rows:8} applications, approved {group.share:.1%}"


def _groups(attribute: ProtectedAttribute, members: Mapping[str, _Rows], approved: _Rows) -> tuple[Group, ...]:
    return tuple(Group.of(attribute, name, rows, approved) for name, rows in members.items())


def _band(low: float, high: float) -> str:
    if np.isinf(low):
        return f"under {high:g}"
    return f"{low:g} and over" if np.isinf(high) else f"{low:g} to under {high:g}"


@dataclass(frozen=True, slots=True)
class GroupPerformance:
    """The outcomes and approvals of one protected group.

    `impact_ratio` is the group's share of approvals over that of the group of the same attribute that is approved most.
    It and `observed` are None for a group that is too small, `auc` also where too few of either outcome were seen.
    """

    group: Group
    impact_ratio: ImpactRatio | None
    observed: Observation | None
    auc: Estimate | None


def group_performances(
    attribute: ProtectedAttribute,
    members: Mapping[str, _Rows],
    *,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    approved: _Rows,
    min_rows: int,
    min_outcomes: int,
    confidence: float,
) -> tuple[GroupPerformance, ...]:
    """Measure each group of an attribute; `members` marks which of the n rows each group holds."""
    groups = [Group.of(attribute, name, rows, approved) for name, rows in members.items()]
    reference = most_approved(groups, min_rows)

    def performance(group: Group) -> GroupPerformance:
        if reference is None or group.rows < min_rows:
            return GroupPerformance(group, None, None, None)
        rows = members[group.name]
        outcomes = target[rows]
        defaults = int(outcomes.sum())
        # DeLong's interval needs some rows of either outcome, however many rows the group has.
        judged = min(defaults, len(outcomes) - defaults) >= min_outcomes
        return GroupPerformance(
            group,
            ImpactRatio(group, reference),
            observe(target, probability, rows, confidence),
            auc_estimate(outcomes, probability[rows], confidence) if judged else None,
        )

    return tuple(performance(group) for group in groups)
