"""From raw columns to decisions: the artefact, the model, calibration, policy and the batch job."""

from __future__ import annotations

from .artefact import Artefact
from .calibration import Calibration
from .errors import ArtefactError, OutputError, ScoringError
from .model import Model
from .policy import DecisionPolicy, Outcome, PointScale, RiskLevel
from .scorer import Scorer, Scores

__all__ = [
    "Artefact",
    "ArtefactError",
    "Calibration",
    "DecisionPolicy",
    "Model",
    "Outcome",
    "OutputError",
    "PointScale",
    "RiskLevel",
    "Scorer",
    "Scores",
    "ScoringError",
]
