"""Windows: counts of what was scored, over the bins of the model's drift reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scoring import DriftReference

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Counts of some applications; those of two windows add up to those of both.

    Attributes
    ----------
    features : int64 of shape (features, width), as `DriftReference.bin` gives them
    probability : int64 of shape (bins of the PD,)
    """

    features: Counts
    probability: Counts

    @classmethod
    def of(cls, reference: DriftReference, matrix: NDArray[np.float64], probability: NDArray[np.float64]) -> Self:
        """The window of rows of the model matrix, shape (n, features), and their PDs, shape (n,)."""
        return cls(reference.bin(matrix), reference.probability.count(probability))

    @classmethod
    def reference(cls, reference: DriftReference) -> Self:
        """What the reference itself counted."""
        return cls(reference.counts, np.array(reference.probability.counts, dtype=np.int64))

    @property
    def rows(self) -> int:
        """How many applications were counted."""
        return int(self.probability.sum())

    def __add__(self, other: Window) -> Window:
        return Window(self.features + other.features, self.probability + other.probability)
