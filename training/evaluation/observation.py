"""What was observed of a part of the rows: how many defaulted, and how many the model expected to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.measures import Estimate, share_estimate

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """The mean PD of `rows` rows and their default rate with Wilson's interval; None for no rows."""

    rows: int
    mean_probability: float | None
    default_rate: Estimate | None


def observe(target: Target, probability: Probabilities, members: NDArray[np.bool_], confidence: float) -> Observation:
    """The observation of the rows that are `members`; all three arrays of shape (n,).

    >>> observe(np.array([0, 1]), np.array([0.1, 0.5]), np.array([False, False]), 0.95)
    Observation(rows=0, mean_probability=None, default_rate=None)
    """
    rows = int(np.count_nonzero(members))
    if not rows:
        return Observation(0, None, None)
    rate = share_estimate(int(target[members].sum()), rows, confidence)
    return Observation(rows, float(probability[members].mean()), rate)


def observe_bands(target: Target, probability: Probabilities, bands: int, confidence: float) -> tuple[Observation, ...]:
    """Bands of rising PD that hold the same number of rows as far as ties permit: those over which the ECE is taken."""
    edges = np.quantile(probability, np.linspace(0, 1, bands + 1)[1:-1])
    band = np.searchsorted(edges, probability, side="right")
    return tuple(observe(target, probability, band == i, confidence) for i in np.unique(band))
