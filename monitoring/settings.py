"""The settings of monitoring: configs/monitoring.yaml as frozen models."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from decision_log.writer import LogSettings
from jobs.settings import Settings


class WindowSettings(Settings):
    """When the drift counts of a window are complete, over all workers of one service."""

    rows: int = Field(ge=1)
    seconds: float = Field(gt=0)
    """Or after this time, if there are enough rows to judge."""
    at_least_seconds: float = Field(ge=0)
    """But never sooner: nobody looks more often, and judging takes some milliseconds."""


class RecordingSettings(Settings):
    """What a service keeps of the decisions it makes."""

    enabled: bool
    log: LogSettings
    window: WindowSettings
    checks: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...]
    """User's own checks of a complete window: module:function."""
    probability_buckets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    """Upper bounds of the histogram of PDs."""
    default_rate_days: int = Field(ge=1, le=90)

    @field_validator("probability_buckets")
    @classmethod
    def _rises(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if list(buckets) != sorted(set(buckets)):
            raise ValueError("must rise")
        return buckets


class Materiality(Settings):
    """How large a PSI, less what the sizes alone bring about, must be to matter."""

    moderate: float = Field(gt=0)
    """Look into it."""
    major: float = Field(gt=0)
    """Act."""

    @model_validator(mode="after")
    def _they_rise(self) -> Self:
        if not self.moderate < self.major:
            raise ValueError("moderate must be below major")
        return self


class Importance(Settings):
    """How the features' shares of the model's gain weigh."""

    important: float = Field(gt=0, le=1)
    """A feature that carries this share, with its part of what is derived from it, is held to tighter bounds."""
    bound_factor: float = Field(gt=0, le=1)
    """Part of the bounds on PSI that is enough for such a feature."""
    alarming: float = Field(gt=0, le=1)
    """Moderate drift raises the alarm where the drifting features carry at least this share together."""


class DriftSettings(Settings):
    """When a feature has drifted, and when the alarm goes off."""

    false_alarm_rate: float = Field(gt=0, le=0.2)
    """Share of windows without any drift that may raise the alarm."""
    min_rows: int = Field(ge=50)
    """A smaller window is not judged."""
    psi: Materiality
    importance: Importance
    missing_shift: float = Field(gt=0, le=1)
    """Change of a feature's share of missing values that is major, whatever its PSI."""
    unseen_share: float = Field(gt=0, le=1)
    """Share of categories that the model does not know, beyond the reference's, that is major likewise."""


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


class NotificationSettings(Settings):
    """How Alertmanager is told of what a command finds. Durations are in seconds."""

    attempts: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)
    """Of one attempt."""
    pause_seconds: float = Field(ge=0)
    """After the first failure; it doubles from attempt to attempt."""
    lasts_seconds: float = Field(gt=0, le=31_622_400)
    """An alarm ends by itself after this long, unless it is told again."""


class MonitoringSettings(Settings):
    """All of configs/monitoring.yaml."""

    recording: RecordingSettings
    drift: DriftSettings
    performance: PerformanceSettings
    fairness: FairnessSettings
    alerting: dict[str, Any]
    """Read and checked by `python -m deploy.observability`: the service has no use for it."""
    notification: NotificationSettings
