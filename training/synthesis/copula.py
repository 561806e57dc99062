"""Dependent draws: standard normal scores carry the dependence, quantiles state each column's distribution.

A column is drawn as `marginal.at(blend(rng, size, (weight, driver), ...))`, which is a Gaussian copula (Nelsen 2006,
An Introduction to Copulas, section 2.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from .columns import Booleans, Floats

GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Marginal:
    """A distribution stated by its rounded quantiles at `probabilities`, linear in between."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...] = GRID

    def at(self, scores: Floats) -> Floats:
        """The quantiles at standard normal `scores`, shape (n,)."""
        return np.interp(ndtr(scores), self.probabilities, self.values)


@dataclass(frozen=True, slots=True)
class Counts:
    """A distribution of 0, 1, 2, ... stated by their shares."""

    shares: tuple[float, ...]

    def at(self, scores: Floats) -> Floats:
        """The counts at standard normal `scores`, shape (n,)."""
        bounds = np.cumsum(self.shares)[:-1] / sum(self.shares)
        return np.searchsorted(bounds, ndtr(scores), side="right").astype(np.float64)


def blend(rng: np.random.Generator, *weighted: tuple[float, Floats]) -> Floats:
    """Scores with the given correlations to independent standard normal drivers, shape (n,): standard normal again."""
    noise = math.sqrt(1.0 - sum(weight**2 for weight, _ in weighted))
    scores = noise * rng.standard_normal(len(weighted[0][1]))
    for weight, driver in weighted:
        scores += weight * driver
    return scores


def chance(rng: np.random.Generator, probability: Floats | float, size: int) -> Booleans:
    """Independent draws that are True with the given probability, shape (size,)."""
    return rng.random(size) < probability
