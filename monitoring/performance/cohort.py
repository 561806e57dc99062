"""Cohorts: PDs, and their outcomes, in groups of nearly equal PD, so that a million decisions cost what a few do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Groups of rising PD; every array has shape (groups,).

    Attributes
    ----------
    probability : mean PD of the group
    rows, bad : how many decisions, and how many of them defaulted
    """

    probability: Floats
    rows: Floats
    bad: Floats

    @classmethod
    def of(cls, probability: Floats, outcome: NDArray[np.int8] | None, groups: int) -> Self:
        """The cohort of PDs and outcomes, shape (n,); each distinct PD is a group if there are at most `groups`.

        Without outcomes nobody defaulted.
        """
        order = np.argsort(probability)
        ordered = probability[order]
        starts = _starts(ordered, groups)
        rows = np.diff(np.append(starts, len(ordered))).astype(np.float64)
        bad = np.zeros(len(starts)) if outcome is None else np.add.reduceat(outcome[order], starts, dtype=np.float64)
        return cls(np.add.reduceat(ordered, starts) / rows, rows, bad)

    @property
    def good(self) -> Floats:
        """How many of each group did not default."""
        return self.rows - self.bad

    @property
    def expected(self) -> Self:
        """The cohort in which as many of each group default as its PD says."""
        return type(self)(self.probability, self.rows, self.rows * self.probability)

    def drawn(self, random: np.random.Generator) -> Self:
        """The cohort with outcomes drawn by the PDs."""
        bad = random.binomial(self.rows.astype(np.int64), self.probability)
        return type(self)(self.probability, self.rows, bad.astype(np.float64))


def _starts(ordered: Floats, groups: int) -> NDArray[np.intp]:
    """Where groups begin: at every new value, or where a quantile falls; equal values stay together."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    if len(starts) <= groups:
        return starts
    wanted = np.arange(groups) * len(ordered) // groups
    return np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
