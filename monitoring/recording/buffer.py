"""Decisions that are recorded but not counted yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What is counted of n decisions: rows of the model matrix, and of the scores as many arrays."""

    matrix: NDArray[np.float64]
    probability: NDArray[np.float64]
    decision: NDArray[np.object_]
    risk_level: NDArray[np.object_]
    missing: NDArray[np.int64]
    unknown: NDArray[np.object_]
    withheld: NDArray[np.object_]

    @classmethod
    def of(cls, matrix: NDArray[np.float64], scores: Scores) -> Decided:
        """The decisions on the rows of a model matrix."""
        return cls(
            matrix, scores.probability, scores.decision, scores.risk_level,
            scores.missing, scores.unknown, scores.withheld,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.probability)


class Buffer:
    """Room for so many decisions. They are copied: memory that requests leave behind makes the next ones slower."""

    def __init__(self, rows: int, features: int) -> None:
        self._rows = Decided(
            np.empty((rows, features)), np.empty(rows), np.empty(rows, dtype=object), np.empty(rows, dtype=object),
            np.empty(rows, dtype=np.int64), np.empty(rows, dtype=object), np.empty(rows, dtype=object),
        )  # fmt: skip
        self._used = 0

    def holds(self, rows: int) -> bool:
        """Whether there is room for so many more."""
        return self._used + rows <= len(self._rows)

    def keep(self, matrix: NDArray[np.float64], scores: Scores) -> None:
        """Copy the decisions on rows of the model matrix, which there is room for."""
        start, end = self._used, self._used + len(scores)
        rows = self._rows
        rows.matrix[start:end] = matrix
        rows.probability[start:end] = scores.probability
        rows.decision[start:end] = scores.decision
        rows.risk_level[start:end] = scores.risk_level
        rows.missing[start:end] = scores.missing
        rows.unknown[start:end] = scores.unknown
        rows.withheld[start:end] = scores.withheld
        self._used = end

    def take(self) -> Decided:
        """What is kept; it is good until the next `keep`, which begins anew."""
        rows, used = self._rows, self._used
        self._used = 0
        return Decided(
            rows.matrix[:used], rows.probability[:used], rows.decision[:used], rows.risk_level[:used],
            rows.missing[:used], rows.unknown[:used], rows.withheld[:used],
        )  # fmt: skip
