"""The settings of training: configs/training.yaml as frozen models."""

from __future__ import annotations

from pydantic import Field, model_validator

from features import FeatureSettings, Settings
from scoring import PointScale

from .experiment_settings import ExperimentSettings
from .tree_parameters import TreeParameters
from .tuning_settings import TuningSettings


class EarlyStopping(Settings):
    """When a fit stops adding trees, judged on a part of the training fold."""

    share: float = Field(gt=0, le=0.5)
    """Part of the training fold that judges."""
    rounds: int = Field(ge=1)
    """Trees without an improvement after which the fit stops."""


class ModelSettings(Settings):
    """How the trees are fitted."""

    folds: int = Field(ge=2, le=20)
    min_outcomes_per_fold: int = Field(ge=2)
    """Rows of either outcome that each fold must judge; data with fewer is refused."""
    max_trees: int = Field(ge=1, le=100_000)
    early_stopping: EarlyStopping
    threads: int = Field(ge=1, le=1024)
    parameters: TreeParameters


class Scale(Settings):
    """Score points; see `scoring.PointScale`."""

    base: float
    odds: float = Field(gt=0)
    double: float = Field(gt=0)

    def build(self) -> PointScale:
        """The scale as scoring uses it."""
        return PointScale(base=self.base, odds=self.odds, double=self.double)


class PolicySettings(Settings):
    """Costs and bands from which the decision policy is made."""

    cost_fn: float = Field(gt=0)
    cost_fp: float = Field(gt=0)
    refer_band: float = Field(ge=0, lt=1)
    """Half-width of the refer band, as a part of the cut-off."""
    level_bounds: tuple[float, float, float]
    scale: Scale


class EvaluationSettings(Settings):
    """What is measured, and how sure the intervals are."""

    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=20, le=100_000)
    calibration_bins: int = Field(ge=2, le=1000)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)


class GateSettings(Settings):
    """What a model must reach before it is promoted."""

    min_auc: float = Field(ge=0.5, le=1)
    max_ece: float = Field(gt=0, le=1)
    max_cost_ratio: float = Field(gt=0)


class TrackingSettings(Settings):
    """Where runs and models are recorded."""

    uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    model: str = Field(min_length=1)


class SyntheticSettings(Settings):
    """The data that is generated where none is given."""

    clients: int = Field(ge=100)
    seed: int = Field(ge=0)


class TrainingSettings(Settings):
    """All of configs/training.yaml."""

    seed: int = Field(ge=0)
    features: FeatureSettings
    model: ModelSettings
    policy: PolicySettings
    evaluation: EvaluationSettings
    gates: GateSettings
    tracking: TrackingSettings
    synthetic: SyntheticSettings
    experiments: ExperimentSettings
    tuning: TuningSettings

    @model_validator(mode="after")
    def _bands_do_not_cross(self) -> TrainingSettings:
        if not 0 < self.policy.level_bounds[0] < self.policy.level_bounds[1] < self.policy.level_bounds[2] < 1:
            raise ValueError("policy.level_bounds must rise within (0, 1)")
        return self
