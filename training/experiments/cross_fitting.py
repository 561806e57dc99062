"""Out-of-fold predictions of candidates, all on the same folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import FeatureSettings
from training.data import Dataset
from training.errors import CalibrationError
from training.fitting import calibrated_by_fold, splits
from training.settings import TrainingSettings

from .candidate import Candidate
from .fold import fold_matrices

Advance = Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """What one candidate said of every row, each time fitted without it.

    Attributes
    ----------
    probabilities : calibrated PDs, float64, shape (n,)
    judged : the rows of each fold
    seconds : time spent fitting and predicting, over all folds
    """

    name: str
    parameters: Mapping[str, Any]
    probabilities: NDArray[np.float64]
    judged: tuple[NDArray[np.intp], ...]
    seconds: float


def cross_fit(
    dataset: Dataset,
    groups: Mapping[str, tuple[FeatureSettings, Sequence[Candidate]]],
    settings: TrainingSettings,
    progress: Advance,
) -> list[CrossFitted]:
    """Each candidate of each group with the group's features, on the same folds; `progress` is called after each fit.

    The features of a group are fitted once in each fold and shared by its candidates. A group's name is put before
    those of its candidates, unless it is empty.
    """
    fits: dict[str, _Fits] = {}
    judged_rows = []
    for fitted, judged in splits(dataset.target, settings.model.folds, seed=settings.seed):
        judged_rows.append(judged)
        for name, candidate, margins, seconds in _fitted(dataset, groups, settings, fitted, judged):
            fit = fits.setdefault(name, _Fits(candidate, np.empty(len(dataset))))
            fit.margins[judged] = margins
            fit.seconds += seconds
            progress()
    return [
        cross_fitted(name, fit.candidate.parameters, fit.margins, dataset.target, judged_rows, fit.seconds)
        for name, fit in fits.items()
    ]


def cross_fitted(
    name: str,
    parameters: Mapping[str, Any],
    margins: NDArray[np.float64],
    target: NDArray[np.int64],
    judged: Sequence[NDArray[np.intp]],
    seconds: float,
) -> CrossFitted:
    """Margins calibrated fold by fold on those of the other folds; CalibrationError names one of no use."""
    try:
        probabilities = calibrated_by_fold(margins, target, judged)
    except CalibrationError as error:
        raise CalibrationError(f"{name}: {error}") from None
    return CrossFitted(name, parameters, probabilities, tuple(judged), seconds)


@dataclass(slots=True)
class _Fits:
    candidate: Candidate
    margins: NDArray[np.float64]
    seconds: float = 0.0


def _fitted(
    dataset: Dataset,
    groups: Mapping[str, tuple[FeatureSettings, Sequence[Candidate]]],
    settings: TrainingSettings,
    fitted: NDArray[np.intp],
    judged: NDArray[np.intp],
) -> Iterator[tuple[str, Candidate, NDArray[np.float64], float]]:
    for group, (features, candidates) in groups.items():
        fold = fold_matrices(dataset, fitted, judged, features, settings.model, seed=settings.seed)
        for candidate in candidates:
            started = time.monotonic()
            margins = candidate.margins(fold)
            name = f"{group} + {candidate.name}" if group else candidate.name
            yield name, candidate, margins, time.monotonic() - started
