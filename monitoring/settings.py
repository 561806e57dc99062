"""The settings of monitoring: configs/monitoring.yaml as frozen models."""

from __future__ import annotations

from features import Settings

from .drift import DriftSettings
from .performance.settings import PerformanceSettings
from .recording import RecordingSettings


class MonitoringSettings(Settings):
    """All of configs/monitoring.yaml."""

    recording: RecordingSettings
    drift: DriftSettings
    performance: PerformanceSettings
