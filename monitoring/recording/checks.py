"""Users' own checks of a window: functions that the settings name as module:function."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import Window
from monitoring.errors import CheckError
from scoring import DriftReference

_LOGGER = logging.getLogger("bentoml.credit_scoring")


@dataclass(frozen=True, slots=True, eq=False)
class CompleteWindow:
    """A window that is complete: what a check is asked about.

    Attributes
    ----------
    start, end : seconds since 1970
    counts : over the bins of the reference
    reference : the bins, and what the model was fitted on
    """

    start: float
    end: float
    counts: Window
    reference: DriftReference

    @property
    def rows(self) -> int:
        """How many applications it holds."""
        return self.counts.rows

    def of(self, feature: str) -> NDArray[np.int64]:
        """The counts of one feature; the last two are of unseen categories and of missing values."""
        bins = self.reference.features[feature]
        return self.counts.features[list(self.reference.features).index(feature), : bins.size]


Check = Callable[[CompleteWindow], float]
"""Gives one number, which becomes `credit_scoring_drift_check{check=...}`."""


def load_checks(names: Sequence[str]) -> dict[str, Check]:
    """The functions that are named; CheckError for one that is not there."""
    return {name: _load(name) for name in names}


def _load(name: str) -> Check:
    module, _, function = name.partition(":")
    try:
        check = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CheckError(f"recording.checks: {name}: {error}") from None
    if not callable(check):
        raise CheckError(f"recording.checks: {name}: not a function")
    return check  # type: ignore[no-any-return]


def run_checks(
    checks: Mapping[str, Check], window: CompleteWindow, failed: Callable[[str], object]
) -> dict[str, float]:
    """What the checks say of a window; `failed` is told of those that say nothing."""
    results = {}
    for name, check in checks.items():
        try:
            results[name] = _finite(check(window))
        except Exception:  # a user's code must not stop the others, nor the service
            _LOGGER.exception("the drift check %s failed", name)
            failed(name)
    return results


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
