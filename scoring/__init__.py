"""From raw columns to decisions: the artefact, the model, calibration, policy and the batch job."""

from __future__ import annotations

from .artefact import Artefact
from .batch import score_files
from .binning import category_bins, quantile_bins
from .calibration import Calibration
from .completeness import CompletenessRule
from .conformance import Conformance
from .errors import ArtefactError, ConformanceError, OutputError, ScoringError, SignatureError
from .model import Model
from .policy import DecisionPolicy, Outcome, PointScale, RiskLevel
from .progress import Progress
from .reference import BinKind, Bins, DriftReference
from .scorer import Scorer, Scores, with_conformance
from .signing import DIGEST_VARIABLE, REPORT, SIGNER_VARIABLE, Statement, Trust, sign, verify, write_signature
from .staging import staged
from .stopping import stop_if_asked, until_stopped
from .stored import StoredModel, load_stored
from .summary import Summary

__all__ = [
    "DIGEST_VARIABLE",
    "REPORT",
    "SIGNER_VARIABLE",
    "Artefact",
    "ArtefactError",
    "BinKind",
    "Bins",
    "Calibration",
    "CompletenessRule",
    "Conformance",
    "ConformanceError",
    "DecisionPolicy",
    "DriftReference",
    "Model",
    "Outcome",
    "OutputError",
    "PointScale",
    "Progress",
    "RiskLevel",
    "Scorer",
    "Scores",
    "ScoringError",
    "SignatureError",
    "Statement",
    "StoredModel",
    "Summary",
    "Trust",
    "category_bins",
    "load_stored",
    "quantile_bins",
    "score_files",
    "sign",
    "staged",
    "stop_if_asked",
    "until_stopped",
    "verify",
    "with_conformance",
    "write_signature",
]
