"""What a fitted model answers to: contributions of the features, and how the main ones act."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from features.transformer import FeatureState, FeatureTransformer
from jobs.progress import Progress
from monitoring.measures import Estimate, auc_difference
from scoring.artefact import Artefact
from scoring.drift_reference import DriftReference
from scoring.model import Calibration
from scoring.policy import DecisionPolicy
from scoring.scorer import with_conformance
from training.dataset import Dataset
from training.evaluation import Evaluation, decision_policy, evaluate
from training.fitting import (
    CrossValidation,
    calibrate,
    cross_calibrated,
    cross_validate,
    drift_reference,
    fit_state,
    fit_trees,
    gain,
    margins_of,
    text,
)
from training.settings import InterpretationSettings, TrainingSettings

Matrix = NDArray[np.float64]
_RECORDED_PACKAGES = ("lightgbm", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model fitted on all rows, and what was measured on rows that the fitted models never saw.

    `probabilities` are the out-of-fold PDs, shape (n,); `importance` is the share of gain per feature; `price` is the
    AUC that leaving the protected attributes out costs, `monotone_price` that of the monotone features (None where
    there are none); `later` is the evaluation on applications that came after those it was fitted on, if there are any.
    """

    model_text: str
    features: FeatureState
    calibration: Calibration
    policy: DecisionPolicy
    reference: DriftReference
    validation: CrossValidation
    probabilities: NDArray[np.float64]
    evaluation: Evaluation
    price: Estimate
    monotone_price: Estimate | None
    later: Evaluation | None
    importance: tuple[tuple[str, float], ...]
    interpretation: Interpretation

    def metrics(self) -> dict[str, Any]:
        """What the artefact keeps of the evaluation, JSON-ready."""
        return {
            **self.evaluation.to_dict(),
            "estimated_on": "out-of-fold rows of the training data",
            "fold_auc": [fold.auc for fold in self.validation.folds],
            "price_of_protected_attributes_auc": asdict(self.price),
            "price_of_monotone_features_auc": None if self.monotone_price is None else asdict(self.monotone_price),
            "out_of_time": None if self.later is None else self.later.to_dict(),
        }

    def artefact(self, lineage: Mapping[str, Any]) -> Artefact:
        """The artefact of this model, with where it comes from."""
        return with_conformance(
            Artefact(
                model_text=self.model_text,
                features=self.features,
                calibration=self.calibration,
                policy=self.policy,
                reference=self.reference,
                metrics=self.metrics(),
                lineage=lineage,
            )
        )


def train(
    dataset: Dataset, settings: TrainingSettings, progress: Progress, *, later: Dataset | None = None
) -> TrainedModel:
    """The model that `settings` ask for, fitted on `dataset` and judged on the applications `later` as well."""
    model, seed = settings.model, settings.seed
    with progress.step("cross-validation", model.folds) as advance:
        validation = cross_validate(dataset, settings.features, model, seed=seed, progress=advance)
    price = _price(dataset, settings, validation, progress)
    monotone_price = _monotone_price(dataset, settings, validation, progress)
    policy = decision_policy(settings.policy)
    probabilities = cross_calibrated(validation, dataset.target)
    with progress.step("refit on all rows"):
        state = fit_state(dataset.columns, dataset.target, settings.features, model, seed=seed)
        transformer = FeatureTransformer(state)
        matrix = transformer.transform(dataset.columns)
        booster = fit_trees(
            matrix,
            dataset.target,
            transformer.categorical,
            model,
            names=state.names,
            trees=validation.trees,
            seed=seed,
        )
    calibration = calibrate(validation.margins, dataset.target)
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
    with progress.step("evaluation"):
        evaluation = evaluate(dataset.target, probabilities, policy, settings.evaluation, seed=seed)
        judged = None if later is None else _later(later, transformer, booster, calibration, policy, settings)
    return TrainedModel(
        model_text=text(booster),
        features=state,
        calibration=calibration,
        policy=policy,
        reference=reference,
        validation=validation,
        probabilities=probabilities,
        evaluation=evaluation,
        price=price,
        monotone_price=monotone_price,
        later=judged,
        interpretation=interpretation,
        importance=tuple(zip(state.names, map(float, gain(booster)), strict=True)),
    )


def _price(dataset: Dataset, settings: TrainingSettings, validation: CrossValidation, progress: Progress) -> Estimate:
    """AUC with every attribute minus AUC without the protected ones, on the same folds."""
    if not settings.features.without:
        return Estimate(0.0, 0.0, 0.0)
    features = settings.features.model_copy(update={"without": ()})
    with progress.step("price of the protected attributes", settings.model.folds) as advance:
        unrestricted = cross_validate(dataset, features, settings.model, seed=settings.seed, progress=advance)
    return auc_difference(dataset.target, unrestricted.margins, validation.margins, settings.evaluation.confidence)


def _monotone_price(
    dataset: Dataset, settings: TrainingSettings, validation: CrossValidation, progress: Progress
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
    """The very model that is delivered, on applications that nothing in it has seen."""
    margins = margins_of(booster, transformer.transform(later.columns), threads=settings.model.threads)
    probabilities = calibration.probabilities(margins)
    return evaluate(later.target, probabilities, policy, settings.evaluation, seed=settings.seed)


def lineage(
    dataset: Dataset, settings: TrainingSettings, *, run_id: str, commit: str | None, code: str
) -> dict[str, Any]:
    """Where a model comes from, JSON-ready; `code` is the digest of the code that computes its scores."""
    return {
        "run_id": run_id,
        "commit": commit,
        "code": code,
        "data": {
            "source": dataset.source,
            "sha256": dataset.fingerprint,
            "rows": len(dataset),
            "defaults": int(dataset.target.sum()),
        },
        "settings": settings.recorded(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _RECORDED_PACKAGES}},
    }


@dataclass(frozen=True, slots=True)
class Point:
    """Rows whose value of a feature lies between two of its quantiles, or is one category, or is missing.

    `value` is their median, or the code of the category; None where it is missing. `contribution` is the mean that the
    feature adds to their log-odds of default.
    """

    value: float | None
    contribution: float
    rows: int


@dataclass(frozen=True, slots=True)
class Dependence:
    """How one feature acts, from its lowest values to its highest, missing values last."""

    feature: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """Contributions to the log-odds of default, measured on `rows` rows drawn from those the model was fitted on.

    `contributions` pairs each feature with its share of the mean absolute contribution, the largest first.
    Source: S. Lundberg et al., Nature Machine Intelligence 2, 2020; computed by LightGBM itself.
    """

    rows: int
    contributions: tuple[tuple[str, float], ...]
    dependence: tuple[Dependence, ...]


def interpret(
    booster: lgb.Booster,
    matrix: Matrix,
    names: tuple[str, ...],
    settings: InterpretationSettings,
    *,
    categorical: Collection[int] = (),
    seed: int,
) -> Interpretation:
    """The interpretation of a model on a sample of its model matrix, whose columns `categorical` hold codes."""
    count = min(settings.rows, len(matrix))
    drawn = matrix[np.sort(np.random.default_rng(seed).choice(len(matrix), count, replace=False))]
    added = np.asarray(booster.predict(drawn, pred_contrib=True), dtype=np.float64)[:, :-1]
    strength = np.abs(added).mean(axis=0)
    order = np.argsort(-strength, kind="stable")
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
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])) if len(values) else np.empty(0)
    return np.searchsorted(edges, values, side="right")


def _point(values: Matrix, added: Matrix) -> Point:
    return Point(float(np.median(values)), float(added.mean()), len(values))
