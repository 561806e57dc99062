"""The settings of monitoring: reads configs/monitoring.yaml into frozen models."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from decision_log.writer import LogSettings
from jobs.settings import Settings


class WindowSettings(Settings):
    """When the drift counts of a window are complete, over all workers of one service."""

    rows: int = Field(ge=1)
    seconds: float = Field(gt=0)
    """A window is also complete after this time, if it has enough rows to judge."""
    at_least_seconds: float = Field(ge=0)
    """No window is complete sooner: nobody looks more often, and judging takes about 10 ms."""


class RecordingSettings(Settings):
    """The records that a service keeps of its decisions."""

    enabled: bool
    log: LogSettings
    window: WindowSettings
    checks: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...]
    """The user's own checks of a complete window, each as module:function."""
    probability_buckets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    """Upper bounds of the histogram of PDs."""
    default_rate_days: int = Field(ge=1, le=90)

    @field_validator("probability_buckets")
    @classmethod
    def _rises(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        # prometheus_client takes equal bounds, and refuses falling ones only when a worker makes the histogram
        if list(buckets) != sorted(set(buckets)):
            raise ValueError("must rise")
        return buckets


class Materiality(Settings):
    """The PSI that matters, after the PSI that chance gives at these sizes is taken off."""

    moderate: float = Field(gt=0)
    """From here on, somebody should look into it."""
    major: float = Field(gt=0)
    """From here on, somebody must act."""

    @model_validator(mode="after")
    def _they_rise(self) -> Self:
        if not self.moderate < self.major:
            raise ValueError("moderate must be below major")
        return self


class Importance(Settings):
    """How a feature's share of the model's gain changes its bounds and the alarm."""

    important: float = Field(gt=0, le=1)
    """A feature with this share is held to tighter bounds; its part of derived features counts."""
    bound_factor: float = Field(gt=0, le=1)
    """Such a feature's bounds on the PSI are the others' times this."""
    alarming: float = Field(gt=0, le=1)
    """Moderate drift raises the alarm where the drifting features carry at least this share together."""


class DriftSettings(Settings):
    """When a feature has drifted, and when the alarm is raised."""

    false_alarm_rate: float = Field(gt=0, le=0.2)
    """Share of windows without any drift that may raise the alarm."""
    min_rows: int = Field(ge=50)
    """A smaller window is not judged."""
    psi: Materiality
    importance: Importance
    missing_shift: float = Field(gt=0, le=1)
    """A change of the share of missing values by this much is major drift, whatever the PSI."""
    unseen_share: float = Field(gt=0, le=1)
    """A rise of the share of unknown categories by this much is major drift, whatever the PSI."""


class PerformanceSettings(Settings):
    """How performance is measured, and when it raises the alarm."""

    min_auc: float = Field(ge=0.5, le=1)
    """The alarm is raised if the whole interval of the AUC lies below."""
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=20, le=100_000)
    groups: int = Field(ge=100, le=1_000_000)
    """Decisions beyond this number are joined into so many groups of nearly equal PD."""
    calibration_bins: int = Field(ge=2, le=1000)
    f_beta: float = Field(gt=0)
    lift_share: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class FairnessSettings(Settings):
    """How protected groups are compared."""

    confidence: float = Field(gt=0, lt=1)
    min_rows: int = Field(ge=1)
    """Groups with fewer decisions are shown but not judged."""
    min_impact_ratio: float = Field(ge=0, le=1)
    """A group is signalled if the whole interval of its impact ratio lies below."""


class ComparisonSettings(Settings):
    """How recorded decisions are compared with those of a challenger."""

    bands: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    """The lowest recorded PDs of all bands but the first."""
    amount: str | None
    """The feature whose sum is the exposure of decisions that change; null tells counts alone."""
    stricter: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """Shares of the champion's approvals at which default rates are compared as well."""
    min_people: int = Field(ge=1)
    """Values that fewer people are behind are left out: of a protected group, of a band, of decisions that change."""

    @field_validator("bands")
    @classmethod
    def _bands_rise(cls, bands: tuple[float, ...]) -> tuple[float, ...]:
        if list(bands) != sorted(set(bands)):
            raise ValueError("must rise")
        return bands


class NotificationSettings(Settings):
    """How commands send their findings to Alertmanager; durations are in seconds."""

    attempts: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)
    """The longest that one attempt may take."""
    pause_seconds: float = Field(ge=0)
    """The pause after the first failure; it doubles with each attempt."""
    lasts_seconds: float = Field(gt=0, le=31_622_400)
    """An alarm ends by itself after this time, unless it is sent again."""


class MonitoringSettings(Settings):
    """All of configs/monitoring.yaml."""

    recording: RecordingSettings
    drift: DriftSettings
    performance: PerformanceSettings
    fairness: FairnessSettings
    comparison: ComparisonSettings
    alerting: dict[str, Any]
    """Read and checked by `python -m deploy.observability`; the service does not use it."""
    notification: NotificationSettings
