"""Simulation of the false alarms: windows drawn from applications among which there is no drift.

Whole rows are drawn, so the features of a window are as correlated as those of real applications.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import WHOLE, judge
from monitoring.settings import DriftSettings
from scoring.drift_reference import Bins, DriftReference, Window


@dataclass(frozen=True, slots=True)
class Simulated:
    """How many of `windows` windows of `rows` rows without drift raised the alarm, and how many named a feature."""

    rows: int
    windows: int
    alarms: int
    windows_with_drifted_features: int
    windows_with_significant_features: int

    @property
    def rate(self) -> float:
        """The measured rate of false alarms."""
        return self.alarms / self.windows


class ReferencePopulation:
    """Applications to draw windows from: the bin of every feature and of the PD of each, kept in one byte."""

    def __init__(
        self, reference: DriftReference, matrix: NDArray[np.float64], probability: NDArray[np.float64]
    ) -> None:
        self.reference = reference
        bins = [*reference.features.values(), reference.probability]
        columns = [*matrix.T, probability]
        self._codes = np.stack([positions(each, values) for each, values in zip(bins, columns, strict=True)], axis=1)
        self._starts = reference.offsets

    def window(self, rows: NDArray[np.intp]) -> Window:
        """The window of these rows."""
        codes = self._codes[rows] + self._starts
        end = self._starts[-1]
        counts = np.bincount(codes.ravel(), minlength=end + self.reference.probability.size)
        return Window(counts[:end], counts[end:])

    def windows(self, rows: int, count: int, random: np.random.Generator) -> Iterator[Window]:
        """`count` windows of `rows` rows each, drawn with replacement."""
        for _ in range(count):
            yield self.window(random.integers(len(self._codes), size=rows))


def simulate(
    population: ReferencePopulation,
    settings: DriftSettings,
    *,
    rows: int,
    windows: int,
    random: np.random.Generator,
    base: Window | None = None,
) -> Simulated:
    """Judge windows of a population that has not drifted from its reference, or from `base` where that is given."""
    drawn = population.windows(rows, windows, random)
    judged = [judge(population.reference, window, settings, base=base, whole=WHOLE) for window in drawn]
    return Simulated(
        rows=rows,
        windows=windows,
        alarms=sum(judgement.alarm for judgement in judged),
        windows_with_drifted_features=sum(bool(judgement.drifted) for judgement in judged),
        windows_with_significant_features=sum(
            any(shift.significant for shift in judgement.features) for judgement in judged
        ),
    )


def positions(bins: Bins, values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The bin of each value, shape (n,): the same as `Bins.count` counts."""
    edges = np.array(bins.edges)
    found = np.searchsorted(edges, values)
    if bins.kind == "category":
        known = np.append(edges, np.nan)[found] == values
        found[~known] = bins.size - 2
    found[np.isnan(values)] = bins.size - 1
    return found.astype(np.uint8)
