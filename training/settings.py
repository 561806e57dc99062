"""The settings of training: configs/training.yaml as frozen models."""

from __future__ import annotations

from pydantic import Field, model_validator

from features import FeatureSettings, Settings
from scoring import PointScale


class EarlyStopping(Settings):
    """When a fit stops adding trees, judged on a part of the training fold."""

    share: float = Field(gt=0, lt=1)
    """Part of the training fold that judges."""
    rounds: int = Field(ge=1)
    """Trees without an improvement after which the fit stops."""


class ModelSettings(Settings):
    """How the trees are fitted."""

    folds: int = Field(ge=2)
    max_trees: int = Field(ge=1)
    early_stopping: EarlyStopping
    threads: int = Field(ge=1)
    parameters: dict[str, float | int | str | bool]
    """LightGBM's own parameters, by its names."""


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
    resamples: int = Field(ge=20)
    calibration_bins: int = Field(ge=2)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)


class FairnessSettings(Settings):
    """Screening of approvals by protected group; see `training.fairness`."""

    min_impact_ratio: float = Field(ge=0, le=1)
    age_bounds: tuple[int, ...] = Field(min_length=1)
    """First years of the age bands, rising; the last one begins the age of the elderly."""
    min_rows: int = Field(ge=1)
    """Groups with fewer rows are not judged."""

    @model_validator(mode="after")
    def _ages_rise(self) -> FairnessSettings:
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
    fairness: FairnessSettings
    latency: LatencySettings


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

    @model_validator(mode="after")
    def _bands_do_not_cross(self) -> TrainingSettings:
        if not 0 < self.policy.level_bounds[0] < self.policy.level_bounds[1] < self.policy.level_bounds[2] < 1:
            raise ValueError("policy.level_bounds must rise within (0, 1)")
        return self
