"""Fairness screening counts approvals by protected group.

The protected attributes are read from the raw rows and never by the model. A low adverse impact ratio is a signal to
look closer, not a verdict: groups differ in risk, and no lending regulator has made the four fifths a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.schema import ColumnKind, Protection
from features.transformer import Columns, missing_as_nan
from jobs.commandline import table
from monitoring.measures import Estimate, Group, ImpactRatio, auc_estimate
from training.evaluation import Observation, observe

_Rows = NDArray[np.bool_]


def members(columns: Columns, attribute: str) -> dict[str, _Rows]:
    """Mark the rows of each declared group of a protected attribute: its levels', or its bands' from the lowest on."""
    column, protection = columns.schema.stating(attribute)
    place = columns.schema.position[column.name]
    if not column.numeric:
        stated = columns.levels[:, place]
        return {name: np.isin(stated, np.array(levels, dtype=object)) for name, levels in protection.groups}
    values = missing_as_nan(columns)[:, place] / protection.per_unit
    if column.kind is ColumnKind.FLAG:
        return {"0": values == 0, "1": values == 1}
    ends = zip([-np.inf, *protection.bands], [*protection.bands, np.inf], strict=True)
    return {_band(low, high): (values >= low) & (values < high) for low, high in ends}


def groups_of(columns: Columns, attribute: str, approved: _Rows) -> tuple[Group, ...]:
    """Count approvals by group of a protected attribute; `approved` is bool of shape (len(columns),)."""
    return tuple(Group.of(attribute, name, rows, approved) for name, rows in members(columns, attribute).items())


def most_approved(groups: Sequence[Group], min_rows: int) -> Group | None:
    """Find the most approved group of at least `min_rows` rows; None if there is none."""
    # The reference group of the four-fifths rule is the one with the highest rate (29 CFR 1607.4(D)).
    return max((group for group in groups if group.rows >= min_rows), key=lambda group: group.share, default=None)


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """One comparison of approvals by an attribute; `ratio` is None where too few rows are left to compare.

    `elderly` is empty where the least approved group is compared with the most approved one. Else it names the
    elderly and the younger applicants, who are compared.
    """

    attribute: str
    ratio: ImpactRatio | None
    elderly: str = ""


def compared(groups: Sequence[Group], protection: Protection, min_rows: int) -> Iterator[GroupComparison]:
    """Compare the least approved of the groups that have `min_rows` with the most approved, then old with younger.

    The second comparison is only of an age that has the elderly declared.
    """
    large = sorted((group for group in groups if group.rows >= min_rows), key=lambda group: group.share)
    yield GroupComparison(protection.attribute, ImpactRatio(large[0], large[-1]) if len(large) > 1 else None)
    if protection.elderly is not None:
        first = protection.bands.index(protection.elderly) + 1
        yield _elderly_compared(groups[:first], groups[first:], protection.elderly, min_rows)


def _elderly_compared(
    younger: Sequence[Group], elderly: Sequence[Group], bound: float, min_rows: int
) -> GroupComparison:
    """Compare the elderly with all younger applicants.

    Regulation B lets a system weigh age if the age of the elderly, 62 or older, is not held against them
    (12 CFR 1002.2(o) and 1002.6(b)(2)).
    """
    old, reference = _together(elderly, _band(bound, np.inf)), _together(younger, _band(-np.inf, bound))
    enough = min(old.rows, reference.rows) >= min_rows
    named = f"{old.name} against {reference.name}"
    return GroupComparison(old.attribute, ImpactRatio(old, reference) if enough else None, named)


def _together(groups: Sequence[Group], name: str) -> Group:
    return Group(
        groups[0].attribute, name, sum(group.rows for group in groups), sum(group.approved for group in groups)
    )


def group_lines(groups: Sequence[Group]) -> Iterator[str]:
    """Format the groups, one line each."""
    if groups:
        yield from table(map(_group_cells, groups), right={1})


def _group_cells(group: Group) -> tuple[str, str, str]:
    if not group.rows:
        return str(group), "no rows", ""
    return str(group), f"{group.rows} applications", f"approved {group.share:.1%}"


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
    attribute: str,
    marked: Mapping[str, _Rows],
    *,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    approved: _Rows,
    min_rows: int,
    min_outcomes: int,
    confidence: float,
) -> tuple[GroupPerformance, ...]:
    """Measure each group of an attribute; `marked` says which of the n rows each group holds."""
    groups = [Group.of(attribute, name, rows, approved) for name, rows in marked.items()]
    reference = most_approved(groups, min_rows)

    def performance(group: Group) -> GroupPerformance:
        if reference is None or group.rows < min_rows:
            return GroupPerformance(group, None, None, None)
        rows = marked[group.name]
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
