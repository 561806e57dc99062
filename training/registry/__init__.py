"""MLflow tracking and registry, and the BentoML model store."""

from __future__ import annotations

from .fitted import FILES, place_of_fitted, register_fitted, run_of_fitted, write_fitted
from .history import Action, changes, reigning, remember, succession
from .listing import registry_lines
from .packaging import code_digest, sha256
from .registry import (
    Registered,
    artefact_folder,
    champion,
    download,
    find,
    put_in_charge,
    recorded_predictions,
    report_file,
    sign_version,
)
from .report_copy import copy_report
from .store import PARITY_CLIENTS, SIGNING_KEY_VARIABLE, champion_lock, differing_probabilities, import_model
from .tracking import commit, connect, resumed_run, tracked_run, without_secrets

__all__ = [
    "FILES",
    "PARITY_CLIENTS",
    "SIGNING_KEY_VARIABLE",
    "Action",
    "Registered",
    "artefact_folder",
    "champion",
    "champion_lock",
    "changes",
    "code_digest",
    "commit",
    "connect",
    "copy_report",
    "differing_probabilities",
    "download",
    "find",
    "import_model",
    "place_of_fitted",
    "put_in_charge",
    "recorded_predictions",
    "register_fitted",
    "registry_lines",
    "reigning",
    "remember",
    "report_file",
    "resumed_run",
    "run_of_fitted",
    "sha256",
    "sign_version",
    "succession",
    "tracked_run",
    "without_secrets",
    "write_fitted",
]
