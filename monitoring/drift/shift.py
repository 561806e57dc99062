"""Shifts: how far a feature, or the score, of a window is from the reference, and whether that is drift.

A shift is drift when it is both

  material     the PSI, less the part that the sizes alone bring about, reaches the moderate or major bound; or the
               share of missing values, or of categories that the model does not know, has changed by so much
  significant  the p-value, adjusted for the number of features by Benjamini and Hochberg, is at most the level
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from scoring import Bins

from . import statistics
from .settings import DriftSettings
from .statistics import Counts, Floats

_CHANCE = 0.99


class Level(IntEnum):
    """How much something has drifted."""

    STABLE = 0
    MODERATE = 1
    MAJOR = 2


@dataclass(frozen=True, slots=True)
class Shift:
    """What was measured of one feature, or of the score.

    Attributes
    ----------
    importance : share of the model's gain; 1 for the score
    carried : the same with its part of the features that are derived from it
    psi : as the counts give it
    excess : PSI less its mean for samples of one population, at least 0; what is held against the bounds
    chance : PSI that such samples exceed in one of a hundred windows
    moderate, major : the bounds
    ks : Kolmogorov-Smirnov on the bins, of values that are present; NaN for a category
    jensen_shannon : distance in [0, 1]
    missing, unseen : share of the window
    missing_shift, unseen_shift : the same minus the share of the reference
    p_value : of this change, at these sizes
    adjusted : the same, for the number of features
    partial : it follows a calendar, and the window is not known to cover whole periods: see `calendar`
    """

    name: str
    importance: float
    carried: float
    psi: float
    excess: float
    chance: float
    moderate: float
    major: float
    ks: float
    jensen_shannon: float
    missing: float
    missing_shift: float
    unseen: float
    unseen_shift: float
    p_value: float
    adjusted: float
    significant: bool
    partial: bool
    level: Level


def measure(
    bins: Mapping[str, Bins],
    gain: Mapping[str, Floats],
    reference: Counts,
    window: Counts,
    settings: DriftSettings,
    *,
    tightened: Floats,
    partial: NDArray[np.bool_] | None = None,
) -> list[Shift]:
    """The shift of each of `bins` between two sets of counts of shape (bins, width), as one family of tests.

    `gain` holds importance and carried, `tightened` the part of the bounds that is enough, `partial` what is judged by
    its missing values and unknown categories only, all of shape (bins,). The family takes half of the stated rate of
    false alarms.
    """
    partial = np.zeros(len(bins), dtype=np.bool_) if partial is None else partial
    size = np.array([each.size for each in bins.values()])
    numeric = np.array([each.kind == "numeric" for each in bins.values()])
    present = _present(reference.shape[1], size)
    psi = statistics.psi(reference, window)
    p_value = _p_values(reference, window, size, numeric, partial)
    measured = {
        **gain,
        "psi": psi,
        "excess": np.maximum(psi - statistics.psi_bias(reference, window), 0.0),
        "chance": statistics.psi_quantile(reference, window, _CHANCE),
        "moderate": settings.psi.moderate * tightened,
        "major": settings.psi.major * tightened,
        "ks": np.where(numeric, statistics.kolmogorov_smirnov(reference * present, window * present), np.nan),
        "jensen_shannon": statistics.jensen_shannon(reference, window),
        "missing": statistics.share(window, size - 1),
        "missing_shift": statistics.share(window, size - 1) - statistics.share(reference, size - 1),
        "unseen": statistics.share(window, size - 2),
        "unseen_shift": statistics.share(window, size - 2) - statistics.share(reference, size - 2),
        "p_value": p_value,
        "adjusted": statistics.benjamini_hochberg(p_value),
    }
    measured["significant"] = measured["adjusted"] <= settings.false_alarm_rate / 2
    measured["partial"] = partial
    levels = map(Level, _levels(measured, settings).tolist())
    columns = [values.tolist() for values in measured.values()]
    return [Shift(*values) for values in zip(bins, *columns, levels, strict=True)]


def _p_values(
    reference: Counts,
    window: Counts,
    size: NDArray[np.intp],
    numeric: NDArray[np.bool_],
    partial: NDArray[np.bool_],
) -> Floats:
    """The smallest p-value of three tests, times three.

    They are one of all bins, one of the missing values, and one of the order of numbers or of the unseen categories.
    Where only a part of a period is seen, the tests of the values say nothing.
    """
    ordered = _present(reference.shape[1], size)
    tests = (
        np.where(partial, 1.0, statistics.chi_squared_test(reference, window)),
        statistics.share_test(reference, window, size - 1),
        np.where(
            numeric,
            np.where(partial, 1.0, statistics.rank_sum_test(reference * ordered, window * ordered)),
            statistics.share_test(reference, window, size - 2),
        ),
    )
    p_values: Floats = np.minimum(np.min(tests, axis=0) * len(tests), 1.0)
    return p_values


def _present(width: int, size: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which columns of the counts are bins of known values."""
    present: NDArray[np.bool_] = np.arange(width) < size[:, np.newaxis] - 2
    return present


def _levels(measured: Mapping[str, NDArray[np.float64]], settings: DriftSettings) -> NDArray[np.int64]:
    broken = (np.abs(measured["missing_shift"]) >= settings.missing_shift) | (
        measured["unseen_shift"] >= settings.unseen_share
    )
    reached = (measured["excess"] >= measured["moderate"]).astype(int) + (measured["excess"] >= measured["major"])
    reached *= ~measured["partial"].astype(bool)
    levels: NDArray[np.int64] = np.where(broken, int(Level.MAJOR), reached) * (measured["significant"] > 0)
    return levels
