"""From margins to calibrated probabilities of default."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ArtefactError

_LARGEST_EXPONENT = 709.0  # of a float64 that does not overflow


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling: PD = 1 / (1 + exp(-(slope * margin + intercept))).

    Strictly increasing in the margin, so it neither reorders applicants nor creates ties. The slope must be positive.
    Source: J. Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope > 0):
            raise ArtefactError("a calibration needs a positive, finite slope and a finite intercept")

    def log_odds(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated log-odds of default, same shape as `margins`."""
        return self.slope * margins + self.intercept

    def probabilities(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """PD in [0, 1], same shape as `margins`, each computed from its own margin alone.

        >>> Calibration(slope=1.0, intercept=0.0).probabilities(np.array([0.0, np.inf]))
        array([0.5, 1. ])
        """
        exponent = np.minimum(-self.log_odds(margins), _LARGEST_EXPONENT)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)))
