"""Candidates of the experiments: model families, ways of sampling, and ensembles of families.

They are fitted on the same folds, and each predicts the rows that it did not see.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from features.fitting import FeatureSettings
from features.transformer import FeatureTransformer
from training.dataset import Dataset
from training.errors import CalibrationError
from training.fitting import (
    calibrated_by_fold,
    fit_early_stopped,
    fit_state,
    margins_of,
    parameters,
    splits,
    stoppable,
)
from training.search_settings import (
    Family,
    FeatureEngineeringSettings,
    ModelSelectionSettings,
    Sampling,
    SamplingSettings,
)
from training.settings import ModelSettings, TrainingSettings

Rows = NDArray[np.intp]
Margins = NDArray[np.float64]
Matrix = NDArray[np.float64]
Target = NDArray[np.int64]
Advance = Callable[[], object]
Fit = Callable[["FoldMatrices"], Margins]


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


def candidate(family: Family, settings: TrainingSettings) -> Candidate:
    """Make the candidate of a family, with the parameters in the settings."""
    chosen, model, seed = settings.experiments.model_selection, settings.model, settings.seed
    if family is Family.LIGHTGBM:
        return Candidate(family, model.parameters.stated(), _lightgbm(model, seed))
    if family is Family.DUMMY:
        return Candidate(family, {}, lambda fold: np.zeros(len(fold.judged)))
    return Candidate(family, getattr(chosen, family).model_dump(mode="json"), _FITS[family](chosen, model, seed))


def _lightgbm(model: ModelSettings, seed: int) -> Fit:
    def margins(fold: FoldMatrices) -> Margins:
        booster = fit_early_stopped(fold.fitted, fold.target, fold.categorical, model, names=fold.names, seed=seed)
        return margins_of(booster, fold.judged, threads=model.threads)

    return margins


def _logistic_regression(settings: ModelSelectionSettings, _: ModelSettings, seed: int) -> Fit:
    chosen = settings.logistic_regression
    estimator = LogisticRegression(C=chosen.inverse_penalty, max_iter=chosen.max_iterations, random_state=seed)
    return lambda fold: _encoded(estimator, fold)


def _neural_network(settings: ModelSelectionSettings, _: ModelSettings, seed: int) -> Fit:
    chosen = settings.neural_network
    estimator = MLPClassifier(
        chosen.hidden,
        alpha=chosen.penalty,
        learning_rate_init=chosen.learning_rate,
        batch_size=chosen.batch_rows,
        max_iter=chosen.epochs,
        random_state=seed,
    )
    return lambda fold: _encoded(estimator, fold)


def _encoded(estimator: ClassifierMixin, fold: FoldMatrices) -> Margins:
    pipeline = make_pipeline(encoder(len(fold.names), fold.categorical), estimator)
    with warnings.catch_warnings():
        # The epochs of the network are a setting, not a failure to converge.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        pipeline.fit(fold.fitted, fold.target)
    return log_odds(pipeline.predict_proba(fold.judged)[:, 1])


def _random_forest(settings: ModelSelectionSettings, model: ModelSettings, seed: int) -> Fit:
    chosen = settings.random_forest

    def margins(fold: FoldMatrices) -> Margins:
        forest = RandomForestClassifier(
            chosen.trees,
            min_samples_leaf=chosen.min_samples_leaf,
            max_features=chosen.max_features,
            n_jobs=model.threads,
            random_state=seed,
        )
        forest.fit(np.nan_to_num(fold.fitted, nan=np.nan), fold.target)
        forest.n_jobs = 1  # threads would add the trees up in another order each time
        return log_odds(forest.predict_proba(np.nan_to_num(fold.judged, nan=np.nan))[:, 1])

    return margins


def _xgboost(settings: ModelSelectionSettings, model: ModelSettings, seed: int) -> Fit:
    chosen, stopping = settings.xgboost, model.early_stopping

    def margins(fold: FoldMatrices) -> Margins:
        import xgboost  # here, since no other command needs it

        kinds = ["c" if i in fold.categorical else "q" for i in range(len(fold.names))]

        def data(rows: np.ndarray, target: np.ndarray | None = None) -> xgboost.DMatrix:
            return xgboost.DMatrix(
                np.nan_to_num(rows, nan=np.nan), target, feature_types=kinds, enable_categorical=True
            )

        fitted, judging = train_test_split(
            np.arange(len(fold.target)), test_size=stopping.share, random_state=seed, stratify=fold.target
        )
        booster = xgboost.train(
            {**chosen.model_dump(), "objective": "binary:logistic", "seed": seed, "nthread": model.threads},
            data(fold.fitted[fitted], fold.target[fitted]),
            num_boost_round=model.max_trees,
            evals=[(data(fold.fitted[judging], fold.target[judging]), "judging")],
            early_stopping_rounds=stopping.rounds,
            verbose_eval=False,
        )
        best = (0, booster.best_iteration + 1)
        return np.asarray(booster.predict(data(fold.judged), output_margin=True, iteration_range=best), np.float64)

    return margins


_FITS: dict[Family, Callable[[ModelSelectionSettings, ModelSettings, int], Fit]] = {
    Family.LOGISTIC_REGRESSION: _logistic_regression,
    Family.RANDOM_FOREST: _random_forest,
    Family.NEURAL_NETWORK: _neural_network,
    Family.XGBOOST: _xgboost,
}
_INTERPOLATING = (Sampling.SMOTE, Sampling.HYBRID)


def sampled(sampling: Sampling, settings: FeatureEngineeringSettings, model: ModelSettings, *, seed: int) -> Candidate:
    """Make the candidate of LightGBM with this way of sampling.

    SMOTE interpolates between rows, which needs numbers without gaps: it fits on the matrix that `encoder` makes.
    """
    # No early stopping: every fold grows the same number of trees, so that the margins of all folds are on one scale.
    resampler = Resampler(sampling, settings.sampling, seed)

    def margins(fold: FoldMatrices) -> Margins:
        fold = _complete(fold) if sampling in _INTERPOLATING else fold
        matrix, target, weight = resampler(fold.fitted, fold.target)
        data = lgb.Dataset(matrix, target, weight=weight, categorical_feature=list(fold.categorical))
        booster = lgb.train(
            parameters(model, seed, fold.names), data, num_boost_round=settings.trees, callbacks=[stoppable]
        )
        return margins_of(booster, fold.judged, threads=model.threads)

    stated = {"sampling": sampling.value, "trees": settings.trees, **model.parameters.stated()}
    return Candidate(sampling, stated, margins)


@dataclass(frozen=True, slots=True)
class Resampler:
    """A resampler changes the rows, outcomes or weights of a training fold."""

    sampling: Sampling
    settings: SamplingSettings
    seed: int

    def __call__(self, matrix: Matrix, target: Target) -> tuple[Matrix, Target, NDArray[np.float64] | None]:
        """Return the rows, outcomes and weights to fit on; SMOTE and the hybrid need a matrix without NaN."""
        if self.sampling is Sampling.BALANCED_WEIGHTS:
            return matrix, target, len(target) / (2 * np.bincount(target))[target]
        if self.sampling is Sampling.SMOTE:
            matrix, target = self._smote(matrix, target, self.settings.smote_ratio)
        if self.sampling is Sampling.HYBRID:
            matrix, target = self._smote(matrix, target, self.settings.hybrid_ratio)
        if self.sampling in (Sampling.HYBRID, Sampling.UNDERSAMPLING):
            matrix, target = self._undersampled(matrix, target)
        return matrix, target, None

    def _smote(self, matrix: Matrix, target: Target, ratio: float) -> tuple[Matrix, Target]:
        # imbalanced-learn raises an error where defaults are as frequent as the ratio asks already.
        if _odds(target) >= ratio:
            return matrix, target
        smote = SMOTE(sampling_strategy=ratio, k_neighbors=self.settings.neighbours, random_state=self.seed)
        return smote.fit_resample(matrix, target)  # type: ignore[no-any-return]

    def _undersampled(self, matrix: Matrix, target: Target) -> tuple[Matrix, Target]:
        if _odds(target) >= self.settings.undersampling_ratio:
            return matrix, target
        chosen = RandomUnderSampler(sampling_strategy=self.settings.undersampling_ratio, random_state=self.seed)
        # It draws row numbers, so that it neither checks nor copies the matrix.
        rows, _ = chosen.fit_resample(np.arange(len(target))[:, np.newaxis], target)
        return matrix[rows[:, 0]], target[rows[:, 0]]


def _odds(target: Target) -> float:
    """Defaults for each good row."""
    return float(target.sum() / (len(target) - target.sum()))


def _complete(fold: FoldMatrices) -> FoldMatrices:
    fitted = encoder(len(fold.names), fold.categorical).fit(fold.fitted)
    names = tuple(fitted[-1].get_feature_names_out())
    return FoldMatrices(fitted.transform(fold.fitted), fitted.transform(fold.judged), fold.target, (), names)


def blended(members: Sequence[CrossFitted], target: NDArray[np.int64]) -> CrossFitted:
    """Average the members' log-odds."""
    return _ensemble("blend", members, _stacked(members).mean(axis=1), target)


def stacked(members: Sequence[CrossFitted], target: NDArray[np.int64]) -> CrossFitted:
    """Fit a logistic regression on the members' log-odds, for each fold on the rows of the others.

    Source: D. Wolpert, "Stacked generalization", Neural Networks 5, 1992.
    """
    inputs = _stacked(members)
    margins = np.empty(len(target))
    for judged in members[0].judged:
        others = np.ones(len(target), dtype=np.bool_)
        others[judged] = False
        # An infinite C is no penalty: scikit-learn 1.8 deprecated `penalty=None`.
        fit = LogisticRegression(C=np.inf, max_iter=1000).fit(inputs[others], target[others])
        margins[judged] = fit.decision_function(inputs[judged])
    return _ensemble("stack", members, margins, target)


def _stacked(members: Sequence[CrossFitted]) -> NDArray[np.float64]:
    return np.column_stack([log_odds(member.probabilities) for member in members])


def _ensemble(
    name: str, members: Sequence[CrossFitted], margins: NDArray[np.float64], target: NDArray[np.int64]
) -> CrossFitted:
    parameters = {"members": ",".join(member.name for member in members)}
    seconds = sum(member.seconds for member in members)
    return cross_fitted(name, parameters, margins, target, members[0].judged, seconds)
