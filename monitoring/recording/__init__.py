"""The part of monitoring that runs in the service: metrics, drift counts, the decision log. Nothing heavy is loaded."""

from __future__ import annotations

from .settings import LogSettings, OnFailure, RecordingSettings, WindowSettings

__all__ = ["LogSettings", "OnFailure", "RecordingSettings", "WindowSettings"]
