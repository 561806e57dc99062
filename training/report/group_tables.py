"""The tables of the fairness screening."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from features import Protected
from scoring import Outcome
from training.data import Dataset
from training.evaluation import GroupPerformance, group_performances, members_by_age, members_by_level
from training.fitting import TrainedModel
from training.settings import TrainingSettings

from .cells import NOTHING, count, decimal, held, percent, percent_span, span
from .table import Row, Table

_NOT_STATED = "other or not stated"


def performance_by_group(
    dataset: Dataset, trained: TrainedModel, settings: TrainingSettings
) -> dict[Protected, tuple[GroupPerformance, ...]]:
    """What was observed of the groups of each protected attribute; the last group is of those who stated none."""
    approved = np.asarray(trained.policy.outcomes(trained.probabilities) == Outcome.APPROVE)
    return {
        attribute: group_performances(
            attribute,
            _with_the_rest(members),
            target=dataset.target,
            probability=trained.probabilities,
            approved=approved,
            min_rows=settings.report.min_rows,
            min_outcomes=settings.report.min_outcomes,
            confidence=settings.evaluation.confidence,
        )
        for attribute, members in _members(dataset, settings)
    }


def _members(dataset: Dataset, settings: TrainingSettings) -> Iterator[tuple[Protected, dict[str, NDArray[np.bool_]]]]:
    yield Protected.SEX, members_by_level(dataset.columns, Protected.SEX)
    yield Protected.AGE, members_by_age(dataset.columns, settings.gates.fairness.age_bounds)
    yield Protected.MARITAL_STATUS, members_by_level(dataset.columns, Protected.MARITAL_STATUS)


def _with_the_rest(members: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    return {**members, _NOT_STATED: ~np.logical_or.reduce(list(members.values()))}


def group_table(groups: tuple[GroupPerformance, ...]) -> Table:
    """One row for each group that has an applicant."""
    head = ("group", "applications", "approved", "ratio", "default rate", "mean PD", "it is", "AUC")
    rows = (_row(group) for group in groups if group.group.rows)
    return Table.of("lrrrrrlr", head, rows)


def _row(performance: GroupPerformance) -> Row:
    group, observed, area = performance.group, performance.observed, performance.auc
    if observed is None or performance.impact_ratio is None or observed.default_rate is None:
        return group.name, count(group.rows), *[NOTHING] * 6
    rate = observed.default_rate
    return (
        group.name,
        count(group.rows),
        percent(group.share),
        decimal(performance.impact_ratio.value),
        f"{percent(rate.value)} ({percent_span(rate)})",
        percent(observed.mean_probability),
        held(observed.mean_probability, rate),
        NOTHING if area is None else f"{decimal(area.value)} ({span(area)})",
    )
