"""Training one model: cross-validate, calibrate, evaluate, refit on all rows. Nothing is recorded here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from features import FeatureState, FeatureTransformer
from scoring import Artefact, Calibration, DecisionPolicy, DriftReference, Progress, with_conformance
from training.data import Dataset
from training.evaluation import Estimate, Evaluation, auc_difference, decision_policy, evaluate
from training.settings import TrainingSettings

from .booster import fit_trees, gain, margins_of, text
from .calibrating import calibrate, cross_calibrated
from .cross_validation import CrossValidation, cross_validate, fit_state
from .drift_reference import drift_reference
from .interpretation import Interpretation, interpret

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
