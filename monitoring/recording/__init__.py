"""The part of monitoring that runs in the service: metrics, drift counts, the decision log. Nothing heavy is loaded."""

from __future__ import annotations

from monitoring.decision import Caller
from monitoring.errors import CheckError, DecisionLogError, NotRecordedError

from .checks import Check, CompleteWindow
from .key import FILE_VARIABLE, VARIABLE, stated_hash
from .opening import LOG_VARIABLE, check_recording, open_recorder
from .recorder import Recorder
from .settings import LogSettings, OnFailure, RecordingSettings, WindowSettings

__all__ = [
    "FILE_VARIABLE",
    "LOG_VARIABLE",
    "VARIABLE",
    "Caller",
    "Check",
    "CheckError",
    "CompleteWindow",
    "DecisionLogError",
    "LogSettings",
    "NotRecordedError",
    "OnFailure",
    "Recorder",
    "RecordingSettings",
    "WindowSettings",
    "check_recording",
    "open_recorder",
    "stated_hash",
]
