"""Candidates are fitted on the same folds, and each predicts the rows that it did not see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from features.fitting import FeatureSettings
from features.transformer import FeatureTransformer
from training.dataset import Dataset
from training.errors import CalibrationError
from training.fitting import calibrated_by_fold, fit_state, splits
from training.settings import ModelSettings, TrainingSettings

Rows = NDArray[np.intp]
Margins = NDArray[np.float64]
Matrix = NDArray[np.float64]
Advance = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate names a way to fit; `margins` fits one fold and returns log-odds of its judged rows."""

    name: str
    parameters: Mapping[str, Any]
    margins: Callable[[FoldMatrices], Margins]


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """The out-of-fold PDs of one candidate, each from a fit without that row.

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
    """Fit every candidate of every group on the same folds; `progress` is called after each fit.

    A group gives its candidates their features, fitted once in each fold. Its name, unless empty, precedes theirs.
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
    """Calibrate margins fold by fold on the other folds; CalibrationError names a candidate that learned nothing."""
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


@dataclass(frozen=True, slots=True, eq=False)
class FoldMatrices:
    """The matrices of one fold; their features were fitted on its training rows alone.

    Attributes
    ----------
    fitted, judged : float64, shape (rows, d); NaN is missing
    target : outcomes of the fitted rows
    categorical : columns that hold category codes
    names : the features, shape (d,)
    """

    fitted: NDArray[np.float64]
    judged: NDArray[np.float64]
    target: NDArray[np.int64]
    categorical: tuple[int, ...]
    names: tuple[str, ...]


def fold_matrices(
    dataset: Dataset, fitted: Rows, judged: Rows, features: FeatureSettings, model: ModelSettings, *, seed: int
) -> FoldMatrices:
    """Fit the features on the rows `fitted` and transform these and the rows `judged`."""
    columns, target = dataset.columns.take(fitted), dataset.target[fitted]
    transformer = FeatureTransformer(fit_state(columns, target, features, model, seed=seed))
    return FoldMatrices(
        fitted=transformer.transform(columns),
        judged=transformer.transform(dataset.columns.take(judged)),
        target=target,
        categorical=transformer.categorical,
        names=transformer.names,
    )


# A forest whose leaves hold one outcome gives 0 or 1, and the log-odds of these are infinite.
_LEAST_PROBABILITY = 1e-6


def log_odds(probability: NDArray[np.float64]) -> Margins:
    """Return the log-odds of probabilities, which are first clipped to a millionth from 0 and 1.

    >>> log_odds(np.array([0.5, 0.0])).round(1)
    array([  0. , -13.8])
    """
    return np.asarray(logit(np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)))


def encoder(width: int, categorical: Sequence[int]) -> Pipeline:
    """Make an encoder: an indicator per category code or missing code, and standardized numbers without gaps.

    It is fitted on a training fold. The matrix has `width` columns, of which `categorical` hold codes. A missing number
    becomes the median.
    """
    numeric = [column for column in range(width) if column not in set(categorical)]
    # By default scikit-learn's imputer warns and drops a column that is missing in the whole fold.
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    # A code that only judged rows hold gets no indicator; by default the encoder would raise an error.
    indicators = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoded = ColumnTransformer([("numbers", numbers, numeric), ("categories", indicators, list(categorical))])
    return make_pipeline(FunctionTransformer(_finite), encoded)


def _finite(matrix: Matrix) -> Matrix:
    # scikit-learn's estimators refuse infinite values.
    return np.where(np.isfinite(matrix), matrix, np.nan)
