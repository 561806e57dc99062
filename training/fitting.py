"""LightGBM is fitted, cross-validated and calibrated here, with the same bits at every repetition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from features.fitting import FeatureSettings, fit_features, fit_stored_features
from features.portfolio import Portfolio
from features.transformer import Columns, FeatureState, FeatureTransformer
from jobs.commandline import stop_if_asked
from monitoring.measures import auc, fit_line
from scoring.drift_reference import DriftReference, category_bins, quantile_bins
from scoring.model import Calibration, Model
from scoring.policy import DecisionPolicy
from scoring.reasons import Explainer, ReasonMethod, ReasonReference, ReferenceGroup
from training.blocks import BlockDataset, BlockMatrix, StoredColumns, StoredDataset
from training.dataset import Dataset
from training.errors import CalibrationError
from training.fair_fit import FairFit, fair_fit, raised, shaped
from training.search_settings import TreeParameters
from training.settings import DriftReferenceSettings, ModelSettings, TrainingSettings

Matrix = NDArray[np.float64]
AnyMatrix = Matrix | BlockMatrix
"""A model matrix in memory or in a file; both have `take` and give rows as an array."""
Margins = NDArray[np.float64]
Target = NDArray[np.int64]
Advance = Callable[[], object]
_TREES_OF_FIRST_MODEL = 100


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """A fold records its judged rows, its chosen features, its number of trees and its AUC."""

    judged: NDArray[np.intp]
    features: tuple[str, ...]
    trees: int
    auc: float


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """A cross-validation holds its folds and the out-of-fold margin of every row, float64 of shape (n,)."""

    folds: tuple[Fold, ...]
    margins: NDArray[np.float64]

    @property
    def trees(self) -> int:
        """The rounded mean number of trees over the folds; a model refitted on all rows gets as many."""
        # A refit on all rows has no rows left that could stop it early.
        return max(1, round(float(np.mean([fold.trees for fold in self.folds]))))


def cross_validate(
    dataset: Dataset | StoredDataset,
    features: FeatureSettings,
    model: ModelSettings,
    *,
    seed: int,
    progress: Advance = lambda: None,
) -> CrossValidation:
    """Fit and judge every fold; `progress` is called after each."""
    margins = np.empty(len(dataset))
    folds = []
    for fitted, judged in splits(dataset.target, model.folds, seed=seed):
        columns, target = dataset.columns.take(fitted), dataset.target[fitted]
        state = fit_state(columns, target, features, model, seed=seed)
        transformer = FeatureTransformer(state)
        with transformed(transformer, columns) as matrix:
            booster = fit_early_stopped(
                matrix,
                target,
                transformer.categorical,
                model,
                names=state.names,
                seed=seed,
                fair=fair_fit(columns, target, model),
            )
        with transformed(transformer, dataset.columns.take(judged)) as matrix:
            margins[judged] = margins_of(booster, matrix, threads=model.threads)
        score = auc(dataset.target[judged], margins[judged])
        folds.append(Fold(judged, state.names, booster.best_iteration, score))
        progress()
    return CrossValidation(tuple(folds), margins)


def splits(target: NDArray[np.int64], folds: int, *, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the fitted and the judged rows of each fold, stratified by outcome and the same for every model."""
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(target, target)


@contextmanager
def transformed(transformer: FeatureTransformer, columns: Columns | StoredColumns) -> Iterator[AnyMatrix]:
    """The model matrix of raw columns: in memory, or in a file that lasts as long as the context."""
    if isinstance(columns, Columns):
        yield transformer.transform(columns)
        return
    with columns.transformed(transformer) as matrix:
        yield matrix


def fit_state(
    columns: Columns | StoredColumns,
    target: NDArray[np.int64],
    features: FeatureSettings,
    model: ModelSettings,
    *,
    seed: int,
) -> FeatureState:
    """Fit the feature state on these rows alone; a first small model ranks features if that filter is on."""

    if not isinstance(columns, Columns):
        return fit_stored_features(columns, features)

    def importance(matrix: NDArray[np.float64], categorical: tuple[int, ...]) -> NDArray[np.float64]:
        free = model.model_copy(update={"monotone": {}})
        return gain(fit_trees(matrix, target, categorical, free, names=(), trees=_TREES_OF_FIRST_MODEL, seed=seed))

    return fit_features(columns, features, importance=importance)


def fit_early_stopped(
    matrix: AnyMatrix,
    target: NDArray[np.int64],
    categorical: tuple[int, ...],
    settings: ModelSettings,
    *,
    names: Sequence[str],
    seed: int,
    fair: FairFit | None = None,
) -> lgb.Booster:
    """Fit a booster that stops early, judged on a stratified part of the given rows.

    `names` are the features of the matrix; the settings may give some of them a direction. `fair` is what the groups of
    the rows ask of the fit.
    """
    # The fold's judged rows must not choose the number of trees: the AUC on them would be too high.
    divided = train_test_split(
        np.arange(len(target)), test_size=settings.early_stopping.share, random_state=seed, stratify=target
    )
    # In the order of the file, so that a matrix in blocks is read once and gives the same bits.
    fitted, judging = map(np.sort, divided)
    train = dataset_of(matrix.take(fitted, axis=0), target[fitted], categorical)
    judged = dataset_of(matrix.take(judging, axis=0), target[judging], categorical, reference=train)
    judges = None if fair is None else fair.take(judging)
    shaped(judged, judges)
    own = shaped(train, None if fair is None else fair.take(fitted))
    booster = lgb.train(
        parameters(settings, seed, names) | own,
        train,
        num_boost_round=settings.max_trees,
        valid_sets=[judged],
        feval=judges.loss if judges is not None and judges.penalizes else None,
        callbacks=[stoppable, lgb.early_stopping(settings.early_stopping.rounds, verbose=False)],
    )
    return raised(booster, fair)


def fit_trees(
    matrix: AnyMatrix,
    target: NDArray[np.int64],
    categorical: tuple[int, ...],
    settings: ModelSettings,
    *,
    names: Sequence[str],
    trees: int,
    seed: int,
    fair: FairFit | None = None,
) -> lgb.Booster:
    """Fit a booster of exactly `trees` trees on all given rows."""
    train = dataset_of(matrix, target, categorical)
    own = shaped(train, fair)
    booster = lgb.train(parameters(settings, seed, names) | own, train, num_boost_round=trees, callbacks=[stoppable])
    return raised(booster, fair)


def stoppable(_: lgb.callback.CallbackEnv) -> None:
    """Let a signal end the command after any tree; LightGBM calls this after each."""
    stop_if_asked()


_MANY_OUTCOMES = 5_000


def usual_parameters(outcomes: int, features: int) -> TreeParameters:
    """Choose parameters by the number of rows of the rarer outcome and the number of features.

    Rows of the rarer outcome bound what a tree can learn: below 5,000 it has 8 leaves and a strong penalty, else 16. A
    tree is offered 2 sqrt(d) of d features, at most all: few enough that trees differ, and enough on a narrow table.
    """
    # Chosen on four public portfolios with 300 to 10,000 defaults and 16 to 155 features, by AUC out of fold: 16 leaves
    # lose 0.013 where there are 300 defaults, and 8 leaves lose 0.001 where there are 6,600 or more.
    few = outcomes < _MANY_OUTCOMES
    return TreeParameters(
        learning_rate=0.03,
        num_leaves=8 if few else 16,
        max_depth=3 if few else 6,
        min_child_samples=25 if few else 100,
        colsample_bytree=round(min(1.0, 2 / features**0.5), 3),
        reg_alpha=5.0 if few else 1.0,
        reg_lambda=1.0,
        min_data_per_group=100,
        cat_smooth=100.0,
        cat_l2=50.0,
        max_cat_threshold=8,
    )


def fitted_to(dataset: Dataset | StoredDataset, settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with the usual parameters for these data where the settings state none."""
    return usual_settings(dataset.portfolio, settings, rarer=_sizes(dataset, settings)[0])


def usual_settings(portfolio: Portfolio, settings: TrainingSettings, *, rarer: int) -> TrainingSettings:
    """Return the settings with the usual parameters for data with so many rows of the rarer outcome."""
    usual = usual_parameters(rarer, _features(portfolio, settings))
    model = settings.model.model_copy(update={"parameters": settings.model.parameters.over(usual)})
    return settings.model_copy(update={"model": model})


def parameters_line(dataset: Dataset | StoredDataset, settings: TrainingSettings) -> str:
    """Say which parameters of the trees the data chose, and why."""
    outcomes, features = _sizes(dataset, settings)
    used, stated = fitted_to(dataset, settings).model.parameters.stated(), settings.model.parameters.stated()
    chosen = ", ".join(f"{name} {value:g}" for name, value in used.items() if name not in stated)
    if not chosen:
        return "parameters of the trees: all stated in the settings"
    return f"parameters of the trees for {outcomes:,} rows of the rarer outcome and {features} features: {chosen}"


def _sizes(dataset: Dataset | StoredDataset, settings: TrainingSettings) -> tuple[int, int]:
    """The rows of the rarer outcome, and the features that are chosen from."""
    defaults = int(dataset.target.sum())
    return min(defaults, len(dataset) - defaults), _features(dataset.portfolio, settings)


def _features(portfolio: Portfolio, settings: TrainingSettings) -> int:
    return max(1, len(settings.features.select(portfolio)))


def parameters(settings: ModelSettings, seed: int, names: Sequence[str]) -> dict[str, Any]:
    """Combine the settings' parameters with those that make a fit repeatable on any number of threads."""
    return {
        **settings.parameters.stated(),
        **_monotone(settings, names),
        "objective": "binary",
        "metric": "binary_logloss",
        "seed": seed if settings.trees_seed is None else settings.trees_seed,
        # Without it, threads add up sums in an order of their own (LightGBM's documentation of `deterministic`).
        "deterministic": True,
        "force_col_wise": True,  # twice as fast as by rows where a tree looks at a tenth of the features
        "num_threads": settings.threads,
        "verbosity": -1,
    }


def _monotone(settings: ModelSettings, names: Sequence[str]) -> dict[str, Any]:
    directions = [settings.monotone.get(name, 0) for name in names]
    # The method "advanced" costs the least accuracy (LightGBM's documentation of monotone_constraints_method).
    return {"monotone_constraints": directions, "monotone_constraints_method": "advanced"} if any(directions) else {}


def margins_of(booster: lgb.Booster, matrix: AnyMatrix, *, threads: int) -> NDArray[np.float64]:
    """Predict raw log-odds of the rows at the best iteration, shape (n,)."""
    blocks = [matrix] if isinstance(matrix, np.ndarray) else matrix.blocks()
    return np.concatenate([booster.predict(block, raw_score=True, num_threads=threads) for block in blocks])


def gain(booster: lgb.Booster) -> NDArray[np.float64]:
    """Sum the gain of the splits on each feature, shape (d,)."""
    return np.asarray(booster.feature_importance("gain"), dtype=np.float64)


def text(booster: lgb.Booster) -> str:
    """Return the model as text, cut at the best iteration if the fit stopped early."""
    return str(booster.model_to_string(num_iteration=booster.best_iteration or -1))


def dataset_of(
    matrix: AnyMatrix,
    target: NDArray[np.int64],
    categorical: tuple[int, ...],
    *,
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    """Make LightGBM's data set of a matrix; one with a `reference` has its bins."""
    kind = lgb.Dataset if isinstance(matrix, np.ndarray) else BlockDataset
    return kind(matrix, target, reference, categorical_feature=list(categorical), free_raw_data=True)


def calibrate(margins: Margins, target: Target) -> Calibration:
    """Fit Platt scaling to out-of-fold margins; CalibrationError if they do not rise with the default rate."""
    # J. Platt, 1999. Strictly rising, so it keeps the order; isotonic regression would make ties.
    line = fit_line(margins, target)
    if not line.slope > 0:  # also where the slope is NaN, of margins that are all the same
        raise CalibrationError("the model ranks no better than chance on rows it never saw: nothing to calibrate")
    return Calibration(slope=line.slope, intercept=line.intercept)


def cross_calibrated(validation: CrossValidation, target: Target) -> NDArray[np.float64]:
    """Return the out-of-fold PDs of a cross-validation, shape (n,)."""
    return calibrated_by_fold(validation.margins, target, [fold.judged for fold in validation.folds])


def calibrated_by_fold(margins: Margins, target: Target, judged: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Calibrate each fold's margins on the margins of the other folds; out-of-fold PDs of shape (n,).

    If all margins are the same, every row gets the default rate.
    """
    if np.ptp(margins) == 0:
        return np.full(len(target), target.mean())
    probabilities = np.empty(len(target))
    for rows in judged:
        others = np.ones(len(target), dtype=np.bool_)
        others[rows] = False
        probabilities[rows] = calibrate(margins[others], target[others]).probabilities(margins[rows])
    return probabilities


def reason_reference(
    fitted: str,
    matrix: AnyMatrix,
    probabilities: NDArray[np.float64],
    policy: DecisionPolicy,
    settings: TrainingSettings,
) -> ReasonReference | None:
    """Draw the reference group of the reasons from the rows of a fitted model, given as text, and its PDs of them.

    None where the portfolio declares no reasons. Trees of more than eight leaves have path-dependent reasons.
    """
    wanted = settings.reasons
    if settings.declared.reasons is None:
        return None
    model = Model(fitted)
    if wanted.method is ReasonMethod.PATH_DEPENDENT or model.tables is None:
        return ReasonReference(ReasonMethod.PATH_DEPENDENT)
    if wanted.group is ReferenceGroup.ALL:
        count = min(wanted.rows, len(matrix))
        rows = np.random.default_rng(settings.seed).choice(len(matrix), count, replace=False)
    else:
        rows = cut_off_group(probabilities, policy.cutoff, wanted.rows)
    return ReasonReference.interventional(model, wanted.group, matrix[rows])


def cut_off_group(probabilities: NDArray[np.float64], cutoff: float, most: int) -> NDArray[np.intp]:
    """The rows of at most `most` applicants at or just above the cut-off, by their PDs of shape (n,).

    >>> cut_off_group(np.array([0.02, 0.08, 0.09, 0.3]), 0.09, 2).tolist()
    [1, 0]
    """
    # The applicants whose score is at or slightly above the lowest passing one (commentary to 12 CFR 1002.9(b)(2)).
    # Where nobody passes, the one who comes nearest.
    passes = probabilities < cutoff
    order = np.argsort(np.where(passes, cutoff - probabilities, 1.0 + probabilities), kind="stable")
    return order[: min(most, max(1, int(passes.sum())))]


_EXPLAINED = 50
"""Applications whose reasons are timed."""


def explained_in(fitted: str, matrix: AnyMatrix, state: FeatureState, reference: ReasonReference) -> float:
    """The median time that the reasons of one application take, in seconds."""
    explainer = Explainer(Model(fitted), state.names, state.portfolio, reference)
    times = []
    for row in matrix[:_EXPLAINED]:
        begun = time.perf_counter()
        explainer.reasons(row[None])
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def drift_reference(
    matrix: AnyMatrix,
    transformer: FeatureTransformer,
    *,
    probabilities: NDArray[np.float64],
    gain: NDArray[np.float64],
    settings: DriftReferenceSettings,
) -> DriftReference:
    """Build the drift reference of a model fitted on `matrix`, from out-of-fold PDs and the gain of each feature."""
    codes = {i: len(transformer.state.vocabularies[transformer.names[i]]) for i in transformer.categorical}
    bins = [
        category_bins(values, codes[i]) if i in codes else quantile_bins(values, settings.feature_bins)
        for i, values in enumerate(matrix.T if isinstance(matrix, np.ndarray) else matrix.features())
    ]
    shares = gain / max(float(gain.sum()), np.finfo(np.float64).tiny)
    portfolio = transformer.state.portfolio
    return DriftReference(
        features=dict(zip(transformer.names, bins, strict=True)),
        probability=quantile_bins(probabilities, settings.probability_bins),
        importance=dict(zip(transformer.names, map(float, shares), strict=True)),
        rows=len(matrix),
        sources={name: portfolio.features[name].sources for name in transformer.names},
        calendars={name: found for name in transformer.names if (found := portfolio.calendars(name))},
        roll_ups=transformer.state.rolled_up,
    )
