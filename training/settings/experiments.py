"""The settings of the experiments: the part `experiments` of configs/training.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from features import FeatureSet, Protected, Settings


class Family(StrEnum):
    """A kind of model."""

    DUMMY = "dummy"
    """The default rate for everybody."""
    LOGISTIC_REGRESSION = "logistic_regression"
    RANDOM_FOREST = "random_forest"
    NEURAL_NETWORK = "neural_network"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    """As the part `model` of the settings has it."""


class Sampling(StrEnum):
    """What is done about the rarity of defaults, inside the training fold only."""

    NONE = "none"
    BALANCED_WEIGHTS = "balanced_weights"
    """Both outcomes weigh the same in total."""
    SMOTE = "smote"
    """Defaults are added between neighbouring defaults (N. Chawla et al., JAIR 16, 2002)."""
    UNDERSAMPLING = "undersampling"
    """Good rows are left out at random."""
    HYBRID = "hybrid"
    """SMOTE, then undersampling."""


class LogisticSettings(Settings):
    """L2-penalized logistic regression."""

    inverse_penalty: float = Field(gt=0)
    max_iterations: int = Field(ge=1, le=100_000)


class ForestSettings(Settings):
    """Random forest."""

    trees: int = Field(ge=1, le=100_000)
    min_samples_leaf: int = Field(ge=1)
    max_features: float = Field(gt=0, le=1)
    """Share of the features that a split looks at."""


class NetworkSettings(Settings):
    """Fully connected network with rectified units, fitted by Adam."""

    hidden: tuple[int, ...] = Field(min_length=1)
    """Units of each hidden layer."""
    penalty: float = Field(ge=0)
    learning_rate: float = Field(gt=0, le=1)
    batch_rows: int = Field(ge=1)
    epochs: int = Field(ge=1, le=10_000)


class XGBoostSettings(Settings):
    """Gradient-boosted trees of XGBoost; their number is judged on a part of the training fold, as LightGBM's is."""

    learning_rate: float = Field(gt=0, le=1)
    max_depth: int = Field(ge=1, le=1000)
    min_child_weight: float = Field(ge=0)
    subsample: float = Field(gt=0, le=1)
    colsample_bytree: float = Field(gt=0, le=1)
    reg_alpha: float = Field(ge=0)
    reg_lambda: float = Field(ge=0)


class ModelSelectionSettings(Settings):
    """Model families on the same folds, and ensembles of some of them."""

    experiment: str = Field(min_length=1)
    families: tuple[Family, ...] = Field(min_length=2)
    ensemble: tuple[Family, ...] = Field(min_length=2)
    """Families that are blended and stacked; named beforehand, so that no judged row chooses them."""
    logistic_regression: LogisticSettings
    random_forest: ForestSettings
    neural_network: NetworkSettings
    xgboost: XGBoostSettings

    @model_validator(mode="after")
    def _members_are_fitted(self) -> Self:
        if len(set(self.families)) != len(self.families) or not set(self.ensemble) < set(self.families):
            raise ValueError("families must differ and hold those of the ensemble, and more")
        if Family.DUMMY in self.ensemble:
            raise ValueError("the ensemble cannot hold the dummy, which ranks nobody")
        return self


class SamplingSettings(Settings):
    """How often defaults are added and good rows left out."""

    neighbours: int = Field(ge=1, le=10)
    smote_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after SMOTE alone."""
    hybrid_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after the SMOTE of the hybrid."""
    undersampling_ratio: float = Field(gt=0, le=1)
    """Defaults for each good row after undersampling."""


class FeatureEngineeringSettings(Settings):
    """Groups of features by ways of sampling; more groups are more entries."""

    experiment: str = Field(min_length=1)
    feature_sets: dict[str, tuple[FeatureSet, ...]] = Field(min_length=1)
    samplings: tuple[Sampling, ...] = Field(min_length=1)
    sampling: SamplingSettings
    learning_rate: float = Field(gt=0, le=1)
    """In place of the model's, so that the whole grid is fitted in minutes."""
    trees: int = Field(ge=1, le=100_000)


class OptionSettings(Settings):
    """What a lender may have to give up, and what that costs."""

    experiment: str = Field(min_length=1)
    profiles: dict[str, tuple[Protected, ...]] = Field(min_length=1)
    """Protected attributes that no feature may read."""
    monotone: dict[str, Literal[-1, 1]] = Field(min_length=1)
    """Directions that a model with the profile of the part `features` is held to."""


class ExperimentSettings(Settings):
    """All experiments."""

    model_selection: ModelSelectionSettings
    feature_engineering: FeatureEngineeringSettings
    options: OptionSettings
