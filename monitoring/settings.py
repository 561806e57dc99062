"""The settings of monitoring: configs/monitoring.yaml as frozen models."""

from __future__ import annotations

from pydantic import Field

from features import Settings

from .alerting import AlertingSettings
from .drift import DriftSettings
from .notification import NotificationSettings
from .recording import RecordingSettings


class PerformanceSettings(Settings):
    """What is measured of decisions whose outcome is known or estimated, and when that is an alarm."""

    min_auc: float = Field(ge=0.5, le=1)
    """The alarm goes off when the whole interval of the AUC lies below."""
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=20, le=100_000)
    groups: int = Field(ge=100, le=1_000_000)
    """More decisions than this are measured as so many groups of nearly equal PD."""
    calibration_bins: int = Field(ge=2, le=1000)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class FairnessSettings(Settings):
    """What is measured by protected group."""

    confidence: float = Field(gt=0, lt=1)
    min_rows: int = Field(ge=1)
    """Groups with fewer decisions are shown and not judged."""
    min_impact_ratio: float = Field(ge=0, le=1)
    """A group below this, its whole interval, is signalled."""


class MonitoringSettings(Settings):
    """All of configs/monitoring.yaml."""

    recording: RecordingSettings
    drift: DriftSettings
    performance: PerformanceSettings
    fairness: FairnessSettings
    alerting: AlertingSettings
    notification: NotificationSettings
