"""What an experiment compares: ways to get from the fitted rows of a fold to margins of the judged ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from .fold import FoldMatrices

Margins = NDArray[np.float64]
_CERTAIN = 1e-6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A named way to fit; `margins` fits on one fold and returns log-odds of default of its judged rows."""

    name: str
    parameters: Mapping[str, Any]
    margins: Callable[[FoldMatrices], Margins]


def log_odds(probability: NDArray[np.float64]) -> Margins:
    """Log-odds of probabilities, those within a millionth of 0 and 1 drawn to there.

    >>> log_odds(np.array([0.5, 0.0])).round(1)
    array([  0. , -13.8])
    """
    return np.asarray(logit(np.clip(probability, _CERTAIN, 1 - _CERTAIN)))
