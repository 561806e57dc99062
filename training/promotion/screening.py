"""The fairness screening of a model's approvals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import Columns
from scoring import DecisionPolicy, Outcome
from training.evaluation import Group, groups_by_age, groups_by_sex, ratio_by_sex, ratio_of_elderly
from training.settings import FairnessSettings, GateSettings

from .gates import Gate, fairness_gates


@dataclass(frozen=True, slots=True)
class Screening:
    """Approvals by sex and by age band."""

    by_sex: tuple[Group, ...]
    by_age: tuple[Group, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them."""
        return *self.by_sex, *self.by_age

    def gates(self, limits: GateSettings) -> Iterator[Gate]:
        """The gates that they are held against."""
        fewest = limits.fairness.min_rows
        ratios = {"sex": ratio_by_sex(self.by_sex, fewest), "age": ratio_of_elderly(self.by_age, fewest)}
        return fairness_gates(ratios, limits)


def screen(
    columns: Columns, probability: NDArray[np.float64], policy: DecisionPolicy, settings: FairnessSettings
) -> Screening:
    """The screening of n applications with PDs of shape (n,)."""
    approved = np.asarray(policy.outcomes(probability) == Outcome.APPROVE)
    return Screening(groups_by_sex(columns, approved), groups_by_age(columns, approved, settings.age_bounds))
