"""The trainer cross-validates, refits, calibrates, evaluates and explains a model."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from features.transformer import FeatureState, FeatureTransformer
from jobs.commandline import Progress
from monitoring.measures import Estimate, auc, auc_difference
from scoring.artefact import Artefact
from scoring.drift_reference import DriftReference
from scoring.model import Calibration
from scoring.policy import DecisionPolicy
from scoring.reasons import ReasonReference
from scoring.scorer import with_conformance
from training.blocks import StoredDataset
from training.dataset import Dataset
from training.evaluation import Evaluation, decision_policy, evaluate
from training.fair_fit import fair_fit
from training.fitting import (
    AnyMatrix,
    CrossValidation,
    Fold,
    calibrate,
    cross_calibrated,
    cross_validate,
    drift_reference,
    explained_in,
    fit_state,
    fit_trees,
    fitted_to,
    gain,
    margins_of,
    reason_reference,
    splits,
    text,
    transformed,
)
from training.fleet import FleetFit
from training.settings import InterpretationSettings, TrainingSettings

Matrix = NDArray[np.float64]
_RECORDED_PACKAGES = ("lightgbm", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model fitted on all rows, with the measurements of out-of-fold and later rows.

    `explained_in` is the time that the reasons of one application take, in seconds; None where no reasons are declared.
    `probabilities` are the out-of-fold PDs, shape (n,); `importance` is the gain of each feature; `price` is the AUC
    that is lost without the protected attributes, `monotone_price` the AUC that is lost to monotone features (None if
    there are none); `later` evaluates applications that came after the training data, None if there are none.
    """

    model_text: str
    features: FeatureState
    calibration: Calibration
    policy: DecisionPolicy
    reference: DriftReference
    reasons: ReasonReference | None
    explained_in: float | None
    validation: CrossValidation
    probabilities: NDArray[np.float64]
    evaluation: Evaluation
    price: Estimate
    monotone_price: Estimate | None
    later: Evaluation | None
    importance: tuple[tuple[str, float], ...]
    interpretation: Interpretation

    def metrics(self) -> dict[str, Any]:
        """Return the measurements that the artefact keeps, as values that JSON can hold."""
        return {
            **self.evaluation.to_dict(),
            "estimated_on": "out-of-fold rows of the training data",
            "fold_auc": [fold.auc for fold in self.validation.folds],
            "price_of_protected_attributes_auc": asdict(self.price),
            "price_of_monotone_features_auc": None if self.monotone_price is None else asdict(self.monotone_price),
            "out_of_time": None if self.later is None else self.later.to_dict(),
        }

    def artefact(self, lineage: Mapping[str, Any]) -> Artefact:
        """Make the artefact of this model; `lineage` says where the model comes from."""
        # Conformance rows come last: they are computed from the finished artefact.
        return with_conformance(
            Artefact(
                model_text=self.model_text,
                features=self.features,
                calibration=self.calibration,
                policy=self.policy,
                reference=self.reference,
                reasons=self.reasons,
                metrics=self.metrics(),
                lineage=lineage,
            )
        )


def train(
    dataset: Dataset | StoredDataset, settings: TrainingSettings, progress: Progress, *, later: Dataset | None = None
) -> TrainedModel:
    """Train the model that `settings` describe on `dataset`, and judge it on the applications `later` too."""
    settings = fitted_to(dataset, settings)
    model, seed = settings.model, settings.seed
    with progress.step("cross-validation", model.folds) as advance:
        validation = cross_validate(dataset, settings.features, model, seed=seed, progress=advance)
    price = _price(dataset, settings, validation, progress)
    monotone_price = _monotone_price(dataset, settings, validation, progress)
    with ExitStack() as kept:
        with progress.step("refit on all rows"):
            state = fit_state(dataset.columns, dataset.target, settings.features, model, seed=seed)
            transformer = FeatureTransformer(state)
            matrix = kept.enter_context(transformed(transformer, dataset.columns))
            booster = fit_trees(
                matrix,
                dataset.target,
                transformer.categorical,
                model,
                names=state.names,
                trees=validation.trees,
                seed=seed,
                fair=fair_fit(dataset.columns, dataset.target, model),
            )
        described = _described(
            dataset.target, matrix, transformer, booster, validation, settings, progress, later=later
        )
    return replace(described, price=price, monotone_price=monotone_price)


def train_fleet(fit: FleetFit, progress: Progress) -> TrainedModel:
    """Calibrate, evaluate and explain the trees of several machines, on rows that none of them was fitted on.

    Other rows of the same folds calibrate each judged row. The prices are those of `fit.sample`, by cross-validation.
    """
    settings, target = fit.settings, fit.judged.target
    model, seed = settings.model, settings.seed
    booster, transformer = lgb.Booster(model_str=fit.model_text), FeatureTransformer(fit.features)
    matrix = transformer.transform(fit.judged.columns)
    margins = margins_of(booster, matrix, threads=model.threads)
    folds = tuple(
        Fold(judged, fit.features.names, fit.trees, auc(target[judged], margins[judged]))
        for _, judged in splits(target, model.folds, seed=seed)
    )
    described = _described(
        target, matrix, transformer, booster, CrossValidation(folds, margins), settings, progress, later=None
    )
    if not settings.features.without and not model.monotone:
        return described
    rows = np.arange(0, len(fit.sample), max(1, -(-len(fit.sample) // _PRICE_ROWS)))
    priced = fit.sample.take(rows)
    with progress.step("cross-validation of a sample", model.folds) as advance:
        validation = cross_validate(priced, settings.features, model, seed=seed, progress=advance)
    return replace(
        described,
        price=_price(priced, settings, validation, progress),
        monotone_price=_monotone_price(priced, settings, validation, progress),
    )


_PRICE_ROWS = 20_000
"""The most rows that the prices of a fit on several machines are measured on."""


def _described(
    target: NDArray[np.int64],
    matrix: AnyMatrix,
    transformer: FeatureTransformer,
    booster: lgb.Booster,
    validation: CrossValidation,
    settings: TrainingSettings,
    progress: Progress,
    *,
    later: Dataset | None,
) -> TrainedModel:
    """Calibrate, evaluate and explain trees on rows with these margins of models that did not see them; no prices."""
    model, seed, state = settings.model, settings.seed, transformer.state
    policy = decision_policy(settings.policy)
    probabilities = cross_calibrated(validation, target)
    # The delivered calibration uses all out-of-fold margins; the evaluation's PDs use other folds' margins only.
    calibration = calibrate(validation.margins, target)
    with progress.step("interpretation"):
        interpretation = interpret(
            booster,
            matrix,
            state.names,
            settings.interpretation,
            categorical=transformer.categorical,
            seed=seed,
        )
    reference = drift_reference(
        matrix, transformer, probabilities=probabilities, gain=gain(booster), settings=settings.drift_reference
    )
    with progress.step("reasons"):
        fitted = text(booster)
        own = calibration.probabilities(margins_of(booster, matrix, threads=model.threads))
        reasons = reason_reference(fitted, matrix, own, policy, settings)
        seconds = None if reasons is None else explained_in(fitted, matrix, state, reasons)
    with progress.step("evaluation"):
        evaluation = evaluate(target, probabilities, policy, settings.evaluation, seed=seed)
        judged = None if later is None else _later(later, transformer, booster, calibration, policy, settings)
    return TrainedModel(
        model_text=fitted,
        features=state,
        calibration=calibration,
        policy=policy,
        reference=reference,
        reasons=reasons,
        explained_in=seconds,
        validation=validation,
        probabilities=probabilities,
        evaluation=evaluation,
        price=Estimate(0.0, 0.0, 0.0),
        monotone_price=None,
        later=judged,
        interpretation=interpretation,
        importance=tuple(zip(state.names, map(float, gain(booster)), strict=True)),
    )


def _price(
    dataset: Dataset | StoredDataset, settings: TrainingSettings, validation: CrossValidation, progress: Progress
) -> Estimate:
    """AUC with every attribute minus AUC without the protected ones, on the same folds."""
    if not settings.features.without:
        return Estimate(0.0, 0.0, 0.0)
    # A second cross-validation doubles the time of a training; in return each training states the price.
    features = settings.features.model_copy(update={"without": ()})
    with progress.step("price of the protected attributes", settings.model.folds) as advance:
        unrestricted = cross_validate(dataset, features, settings.model, seed=settings.seed, progress=advance)
    return auc_difference(dataset.target, unrestricted.margins, validation.margins, settings.evaluation.confidence)


def _monotone_price(
    dataset: Dataset | StoredDataset, settings: TrainingSettings, validation: CrossValidation, progress: Progress
) -> Estimate | None:
    """AUC without monotone features minus AUC with them, on the same folds."""
    model = settings.model
    if not model.monotone:
        return None
    free = model.model_copy(update={"monotone": {}})
    with progress.step("price of the monotone features", model.folds) as advance:
        unrestricted = cross_validate(dataset, settings.features, free, seed=settings.seed, progress=advance)
    return auc_difference(dataset.target, unrestricted.margins, validation.margins, settings.evaluation.confidence)


def _later(
    later: Dataset,
    transformer: FeatureTransformer,
    booster: lgb.Booster,
    calibration: Calibration,
    policy: DecisionPolicy,
    settings: TrainingSettings,
) -> Evaluation:
    """The delivered model evaluated on applications that it was not fitted on."""
    margins = margins_of(booster, transformer.transform(later.columns), threads=settings.model.threads)
    probabilities = calibration.probabilities(margins)
    return evaluate(later.target, probabilities, policy, settings.evaluation, seed=settings.seed)


def lineage(
    dataset: Dataset | StoredDataset,
    settings: TrainingSettings,
    *,
    run_id: str,
    commit: str | None,
    code: str,
    fleet: FleetFit | None = None,
) -> dict[str, Any]:
    """Record where a model comes from, JSON-ready; `code` is the digest of the code that computes its scores.

    Of a `fleet`, `dataset` holds the rows that judge, and the rows of all machines are recorded.
    """
    return {
        "run_id": run_id,
        "commit": commit,
        "code": code,
        "data": {
            "source": dataset.source,
            "sha256": dataset.fingerprint,
            "rows": len(dataset) if fleet is None else fleet.rows,
            "defaults": int(dataset.target.sum()) if fleet is None else fleet.defaults,
        },
        "settings": settings.recorded(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _RECORDED_PACKAGES}},
    }


@dataclass(frozen=True, slots=True)
class Point:
    """A point stands for the rows of one quantile bin, one category code or the missing values of a feature.

    `value` is their median or the code; None where it is missing. `contribution` is the mean that the feature adds to
    their log-odds of default.
    """

    value: float | None
    contribution: float
    rows: int


@dataclass(frozen=True, slots=True)
class Dependence:
    """The dependence shows a feature's contribution from its lowest to its highest values, missing ones last."""

    feature: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The interpretation measures contributions to the log-odds of default on `rows` rows of the training data.

    `contributions` pairs each feature with its share of the mean absolute contribution, the largest first.
    Source: S. Lundberg et al., Nature Machine Intelligence 2, 2020; computed by LightGBM itself.
    """

    rows: int
    contributions: tuple[tuple[str, float], ...]
    dependence: tuple[Dependence, ...]


def interpret(
    booster: lgb.Booster,
    matrix: AnyMatrix,
    names: tuple[str, ...],
    settings: InterpretationSettings,
    *,
    categorical: Collection[int] = (),
    seed: int,
) -> Interpretation:
    """Interpret a model on a sample of its model matrix, whose columns `categorical` hold codes."""
    count = min(settings.rows, len(matrix))
    drawn = matrix[np.sort(np.random.default_rng(seed).choice(len(matrix), count, replace=False))]
    # Exact and LightGBM's own. The last column is the expected margin, which belongs to no feature.
    added = np.asarray(booster.predict(drawn, pred_contrib=True), dtype=np.float64)[:, :-1]
    strength = np.abs(added).mean(axis=0)
    order = np.argsort(-strength, kind="stable")
    # A model without a split contributes nothing: its shares are 0, not NaN.
    total = max(float(strength.sum()), np.finfo(np.float64).tiny)
    return Interpretation(
        rows=count,
        contributions=tuple((names[i], float(strength[i]) / total) for i in order),
        dependence=tuple(
            Dependence(names[i], _points(drawn[:, i], added[:, i], None if i in categorical else settings.bins))
            for i in order[: settings.features]
        ),
    )


def _points(values: Matrix, added: Matrix, bins: int | None) -> tuple[Point, ...]:
    known = ~np.isnan(values)
    group = values[known] if bins is None else _binned(values[known], bins)
    points = [_point(values[known][group == i], added[known][group == i]) for i in np.unique(group)]
    if not known.all():
        points.append(Point(None, float(added[~known].mean()), int((~known).sum())))
    return tuple(points)


def _binned(values: Matrix, bins: int) -> NDArray[np.intp]:
    # Many rows share one value of a count or a flag, and then several quantiles are the same edge.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])) if len(values) else np.empty(0)
    return np.searchsorted(edges, values, side="right")


def _point(values: Matrix, added: Matrix) -> Point:
    return Point(float(np.median(values)), float(added.mean()), len(values))
