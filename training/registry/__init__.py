"""MLflow tracking and registry, and the BentoML model store."""

from __future__ import annotations

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
    register,
    report_file,
    sign_version,
)
from .report_copy import copy_report
from .store import PARITY_CLIENTS, SIGNING_KEY_VARIABLE, champion_lock, differing_probabilities, import_model
from .tracking import commit, connect, record, tracked_run, without_secrets

__all__ = [
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
    "put_in_charge",
    "record",
    "recorded_predictions",
    "register",
    "registry_lines",
    "reigning",
    "remember",
    "report_file",
    "sha256",
    "sign_version",
    "succession",
    "tracked_run",
    "without_secrets",
]
