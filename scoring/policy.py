"""From PD to decision: cut-off, refer band, risk levels and score points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .completeness import CompletenessRule
from .errors import ArtefactError


class Outcome(StrEnum):
    """What happens to an application."""

    APPROVE = "approve"
    REFER = "refer"
    DECLINE = "decline"


class RiskLevel(StrEnum):
    """Bands of PD, from best to worst."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True, slots=True)
class PointScale:
    """Score points: `base` points at good:bad odds of `odds`, `double` more when the odds double."""

    base: float
    odds: float
    double: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base) and self.odds > 0 and self.double > 0):
            raise ArtefactError("a point scale needs a finite base, positive odds and positive points to double them")

    def points(self, log_odds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Points for log-odds of default, higher is better, rounded half to even.

        >>> PointScale(base=600, odds=50, double=20).points(-np.log([50.0, 100.0]))
        array([600, 620])
        """
        factor = self.double / math.log(2)
        offset = self.base - factor * math.log(self.odds)
        return np.rint(offset - factor * log_odds).astype(np.int64)


@dataclass(frozen=True)
class DecisionPolicy:
    """The thresholds on PD that turn a score into a decision, and what must be known for an approval.

    A PD of at least `cutoff` is predicted to default. A PD below `refer_from` is approved, one of at least
    `refer_to` is declined, one between goes to a person. `level_bounds` are the lower bounds of MEDIUM, HIGH and
    CRITICAL. `cost_fn` is the cost of a bad application approved, `cost_fp` that of a good one declined. Without
    `completeness` nothing but the PD decides.
    """

    cutoff: float
    refer_from: float
    refer_to: float
    level_bounds: tuple[float, float, float]
    cost_fn: float
    cost_fp: float
    scale: PointScale
    completeness: CompletenessRule | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.refer_from <= self.cutoff <= self.refer_to <= 1:
            raise ArtefactError("a policy needs 0 <= refer_from <= cutoff <= refer_to <= 1")
        if not 0 < self.level_bounds[0] < self.level_bounds[1] < self.level_bounds[2] < 1:
            raise ArtefactError("the bounds of the risk levels must rise within (0, 1)")

    def predictions(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 where default is predicted (PD >= cut-off), else 0."""
        return (probabilities >= self.cutoff).astype(np.int64)

    def outcomes(self, probabilities: NDArray[np.float64]) -> NDArray[np.object_]:
        """An Outcome for each PD."""
        return _OUTCOMES[self._refer_band.searchsorted(probabilities, side="right")]

    def risk_levels(self, probabilities: NDArray[np.float64]) -> NDArray[np.object_]:
        """A RiskLevel for each PD."""
        return _LEVELS[self._level_bounds.searchsorted(probabilities, side="right")]

    @cached_property
    def _refer_band(self) -> NDArray[np.float64]:
        return np.array([self.refer_from, self.refer_to])

    @cached_property
    def _level_bounds(self) -> NDArray[np.float64]:
        return np.array(self.level_bounds)


_OUTCOMES = np.array(list(Outcome), dtype=object)
_LEVELS = np.array(list(RiskLevel), dtype=object)
