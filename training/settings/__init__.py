"""The settings of training: configs/training.yaml as frozen models."""

from __future__ import annotations

from .address import address_fault, secrets_of, without_credentials
from .experiments import Family, FeatureEngineeringSettings, ModelSelectionSettings, Sampling, SamplingSettings
from .training import (
    DriftReferenceSettings,
    EvaluationSettings,
    FairnessSettings,
    GateSettings,
    InterpretationSettings,
    LeakageSettings,
    ModelSettings,
    OutOfTimeSettings,
    PolicySettings,
    ReportSettings,
    SyntheticSettings,
    TrackingSettings,
    TrainingSettings,
)
from .tree_parameters import DRAWING_ROWS, TreeParameters
from .tuning import NestedSettings, Objective, SearchSpace, WholeRange

__all__ = [
    "DRAWING_ROWS",
    "DriftReferenceSettings",
    "EvaluationSettings",
    "FairnessSettings",
    "Family",
    "FeatureEngineeringSettings",
    "GateSettings",
    "InterpretationSettings",
    "LeakageSettings",
    "ModelSelectionSettings",
    "ModelSettings",
    "NestedSettings",
    "Objective",
    "OutOfTimeSettings",
    "PolicySettings",
    "ReportSettings",
    "Sampling",
    "SamplingSettings",
    "SearchSpace",
    "SyntheticSettings",
    "TrackingSettings",
    "TrainingSettings",
    "TreeParameters",
    "WholeRange",
    "address_fault",
    "secrets_of",
    "without_credentials",
]
