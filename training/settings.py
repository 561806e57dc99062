"""The settings of training: configs/training.yaml as frozen models."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from features.application import APPLICATION
from features.catalogue import CATALOGUE
from features.fitting import FeatureSettings
from jobs.settings import Settings
from scoring.policy import CompletenessRule, PointScale
from training.search_settings import ExperimentSettings, TreeParameters, TuningSettings, without_credentials


class EarlyStopping(Settings):
    """When a fit stops adding trees, judged on a part of the training fold."""

    share: float = Field(ge=0.05, le=0.5)
    """Part of the training fold that judges."""
    rounds: int = Field(ge=1)
    """Trees without an improvement after which the fit stops."""


class ModelSettings(Settings):
    """How the trees are fitted."""

    folds: int = Field(ge=2, le=20)
    min_outcomes_per_fold: int = Field(ge=12)
    """Rows of either outcome that each fold must judge; data with fewer is refused."""
    max_trees: int = Field(ge=1, le=100_000)
    early_stopping: EarlyStopping
    threads: int = Field(ge=1, le=1024)
    parameters: TreeParameters
    monotone: dict[str, Literal[-1, 1]]
    """Features with which the PD may only fall (-1) or rise (1)."""

    @model_validator(mode="after")
    def _monotone_features_are_numbers(self) -> Self:
        numbers = {feature.name for feature in CATALOGUE} - {column.name for column in APPLICATION.categorical}
        unknown = sorted(set(self.monotone) - numbers)
        if unknown:
            raise ValueError(f"monotone: not numeric features: {', '.join(unknown)}")
        return self


class Scale(Settings):
    """Score points; see `scoring.PointScale`."""

    base: float
    odds: float = Field(gt=0)
    double: float = Field(gt=0)

    def build(self) -> PointScale:
        """The scale as scoring uses it."""
        return PointScale(base=self.base, odds=self.odds, double=self.double)


class CompletenessSettings(Settings):
    """What must be known of an application that is approved."""

    known: tuple[str, ...]
    max_missing_share: float = Field(ge=0, le=1)

    @field_validator("known")
    @classmethod
    def _declared(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if name not in APPLICATION or names.count(name) > 1]
        if wrong:
            raise ValueError(f"must be declared columns, each once, not {', '.join(wrong)}")
        return names

    def build(self) -> CompletenessRule:
        """The rule as scoring uses it."""
        return CompletenessRule(known=self.known, max_missing_share=self.max_missing_share)


class PolicySettings(Settings):
    """Costs and bands from which the decision policy is made."""

    cost_fn: float = Field(gt=0)
    cost_fp: float = Field(gt=0)
    refer_band: float = Field(ge=0, lt=1)
    """Half-width of the refer band, as a part of the cut-off."""
    level_bounds: tuple[float, float, float]
    scale: Scale
    completeness: CompletenessSettings | None = CompletenessSettings(known=(), max_missing_share=0.55)
    """An approval that falls short of it is referred to a person; null approves by the PD alone. Settings that do not
    name it, as those of older projects, get the share as delivered."""


class EvaluationSettings(Settings):
    """What is measured, and how sure the intervals are."""

    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=20, le=100_000)
    calibration_bins: int = Field(ge=2, le=1000)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)


class LeakageSettings(Settings):
    """How well a single column may rank the outcome before it counts as a leak."""

    max_column_auc: float = Field(gt=0.5, le=1)
    """Of a raw column alone, the lower end of its interval; a declared column beyond it is refused."""
    max_order_auc: float = Field(gt=0.5, le=1)
    """Of the identifier and of the order of the rows; beyond it a line says so."""
    rows: int = Field(ge=1000)
    """Rows, evenly spaced, that are looked at where there are more."""
    confidence: float = Field(gt=0, lt=1)


class OutOfTimeSettings(Settings):
    """The newest applications are set aside to judge the model on."""

    column: str = Field(min_length=1)
    """A column of dates in the file; it never becomes a feature."""
    share: float = Field(gt=0, le=0.5)


class InterpretationSettings(Settings):
    """What is said of the fitted model."""

    rows: int = Field(ge=100, le=1_000_000)
    """Rows on which contributions are measured."""
    features: int = Field(ge=1, le=30)
    """Main features whose dependence is shown."""
    bins: int = Field(ge=2, le=100)


class DriftReferenceSettings(Settings):
    """How finely the artefact keeps the distributions that monitoring compares with; bins of about equal size."""

    feature_bins: int = Field(ge=2, le=100)
    probability_bins: int = Field(ge=2, le=100)


class ReportSettings(Settings):
    """What the report of a model shows."""

    min_rows: int = Field(ge=10)
    """Of a smaller group only the size is shown: a rate would say more of its members than of the model."""
    min_outcomes: int = Field(ge=12)
    """Rows of either outcome without which a group has no AUC."""
    features: int = Field(ge=1)
    """Features that are listed, the main ones first."""


class ApprovalSettings(Settings):
    """Screening of approvals by protected group; see `training.fairness`."""

    min_impact_ratio: float = Field(ge=0, le=1)
    age_bounds: tuple[int, ...] = Field(min_length=1)
    """First years of the age bands, rising; the last one begins the age of the elderly."""
    min_rows: int = Field(ge=1)
    """Groups with fewer rows are not judged."""

    @model_validator(mode="after")
    def _ages_rise(self) -> ApprovalSettings:
        if list(self.age_bounds) != sorted(set(self.age_bounds)):
            raise ValueError("age_bounds must rise")
        return self


class LatencySettings(Settings):
    """How fast one application must be scored."""

    max_milliseconds: float = Field(gt=0)
    applications: int = Field(ge=1)
    """Applications whose median time is judged."""


class GateSettings(Settings):
    """What a model must reach before it is put in charge."""

    min_auc: float = Field(ge=0.5, le=1)
    max_ece: float = Field(gt=0, le=1)
    max_cost_ratio: float = Field(gt=0)
    max_auc_loss: float = Field(ge=0, le=1)
    max_cost_increase: float = Field(ge=0)
    fairness: ApprovalSettings
    latency: LatencySettings


_MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


class TrackingSettings(Settings):
    """Where runs and models are recorded."""

    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    model: str = Field(max_length=63)

    @field_validator("model")
    @classmethod
    def _legal_in_both_stores(cls, name: str) -> str:
        """MLflow takes other names than BentoML's store, which would change them."""
        if not _MODEL_NAME.fullmatch(name):
            raise ValueError("must be lower-case letters, digits, and . _ - between them")
        return name


class SyntheticSettings(Settings):
    """The data that is generated where none is given."""

    clients: int = Field(ge=100)
    seed: int = Field(ge=0)


class TrainingSettings(Settings):
    """All of configs/training.yaml."""

    seed: int = Field(ge=0)
    features: FeatureSettings
    leakage: LeakageSettings
    out_of_time: OutOfTimeSettings | None
    model: ModelSettings
    policy: PolicySettings
    evaluation: EvaluationSettings
    interpretation: InterpretationSettings
    drift_reference: DriftReferenceSettings
    report: ReportSettings
    gates: GateSettings
    tracking: TrackingSettings
    synthetic: SyntheticSettings
    experiments: ExperimentSettings
    tuning: TuningSettings

    @model_validator(mode="after")
    def _bands_do_not_cross(self) -> Self:
        if not 0 < self.policy.level_bounds[0] < self.policy.level_bounds[1] < self.policy.level_bounds[2] < 1:
            raise ValueError("policy.level_bounds must rise within (0, 1)")
        return self

    def recorded(self) -> dict[str, Any]:
        """The settings as they are kept with a run and a model, JSON-ready: addresses without user and password."""
        values = self.model_dump(mode="json")
        values["tracking"]["uri"] = without_credentials(self.tracking.uri)
        values["tuning"]["storage"] = without_credentials(self.tuning.storage)
        return values
