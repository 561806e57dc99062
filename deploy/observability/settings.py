"""What the templates are filled with: `alerting` of configs/monitoring.yaml, and limits that are defined elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, PlainSerializer, PlainValidator, model_validator

from deploy.errors import DeployError
from jobs.settings import Settings
from monitoring.settings import MonitoringSettings
from serving.settings import ServingSettings

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_WRITTEN = re.compile(r"([1-9][0-9]*)(ms|s|m|h|d)")


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time; its text is what PromQL and the settings call it.

    >>> str(Duration.parse("90m")), str(Duration.parse("60m"))
    ('90m', '1h')
    """

    milliseconds: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """The duration that `text` names, like 30s, 5m or 7d; ValueError if it names none."""
        written = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if written is None:
            raise ValueError("must be a whole number and a unit (ms, s, m, h or d), like 5m")
        return cls(int(written[1]) * _MILLISECONDS[written[2]])

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.milliseconds / 1000

    def __truediv__(self, factor: int) -> Self:
        """The duration that is `factor` times shorter, a millisecond at least."""
        return type(self)(max(1, self.milliseconds // factor))

    def __str__(self) -> str:
        unit, length = next((u, n) for u, n in _MILLISECONDS.items() if self.milliseconds % n == 0)
        return f"{self.milliseconds // length}{unit}"


Written = Annotated[Duration, PlainValidator(Duration.parse), PlainSerializer(str)]
"""A duration in a settings file."""


class Holds(Settings):
    """How long a condition must last before an alert fires."""

    short: Written
    steady: Written
    settled: Written


class Windows(Settings):
    """Over how long figures are taken: of traffic, of recent decisions, and of those that they are compared with."""

    rate: Written
    recent: Written
    baseline: Written


class Burn(Settings):
    """A pair of windows over which the error budget must not be spent `factor` times as fast as it may be."""

    severity: Literal["critical", "warning", "info"]
    factor: float = Field(gt=0)
    long: Written
    short: Written

    @model_validator(mode="after")
    def _short_is_shorter(self) -> Self:
        if not self.short < self.long:
            raise ValueError("short must be shorter than long")
        return self


class Objectives(Settings):
    """What the service promises for scoring requests, and when the promise is in danger."""

    availability: float = Field(gt=0, lt=1)
    latency_seconds: float = Field(gt=0)
    latency_share: float = Field(gt=0, lt=1)
    burns: tuple[Burn, ...] = Field(min_length=1)


class Limits(Settings):
    """Beyond these an alert fires; configs/monitoring.yaml says what each is of."""

    error_ratio: float = Field(gt=0, lt=1)
    shed_ratio: float = Field(gt=0, lt=1)
    invalid_ratio: float = Field(gt=0, lt=1)
    history_unavailable_ratio: float = Field(gt=0, lt=1)
    history_stale_ratio: float = Field(gt=0, lt=1)
    history_lost_ratio: float = Field(gt=0, lt=1)
    history_lost_rows: int = Field(ge=1)
    p99_seconds: float = Field(gt=0)
    batch_p99_seconds: float = Field(gt=0)
    category_jump: float = Field(gt=0, lt=1)
    decline_shift: float = Field(gt=0, lt=1)
    decline_rows: int = Field(ge=1)
    drift_window_age: Written
    segment_age: Written
    unclosed_age: Written
    performance_age: Written
    thread_age: Written


class Repeats(Settings):
    """After how long an alert that lasts is told again, by severity."""

    critical: Written
    warning: Written
    info: Written


class Receivers(Settings):
    """The webhook of each severity; `none` is the heartbeat of the alerting itself."""

    critical: HttpUrl
    warning: HttpUrl
    info: HttpUrl
    none: HttpUrl


class RetrainingRoute(Settings):
    """The receiver that retrains, and the alerts that it hears of besides those who hear of their severity."""

    url: HttpUrl
    credentials_file: str | None = Field(default=None, min_length=1)
    """The file with its token, as Alertmanager reads it."""
    alerts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], ...] = Field(min_length=1)


class Routing(Settings):
    """How Alertmanager groups and repeats, and where it delivers."""

    group_wait: Written
    group_interval: Written
    heartbeat_interval: Written
    repeat_interval: Repeats
    receivers: Receivers
    retraining: RetrainingRoute | None = None


class AlertingSettings(Settings):
    """The section `alerting`."""

    job: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    targets: tuple[str, ...] = Field(min_length=1)
    credentials_file: str | None = Field(min_length=1)
    alertmanagers: tuple[str, ...] = Field(min_length=1)
    runbook: str = Field(min_length=1)
    scrape_interval: Written
    holds: Holds
    windows: Windows
    objectives: Objectives
    limits: Limits
    routing: Routing


class _Section(Settings):
    alerting: AlertingSettings


@dataclass(frozen=True)
class Observed:
    """All that the templates take from the settings.

    Attributes
    ----------
    moderate, major : PSI from which to look into a shift, and from which to act
    min_auc : AUC below which the model no longer ranks well enough
    """

    alerting: AlertingSettings
    moderate: float
    major: float
    min_auc: float

    @classmethod
    def load(cls, monitoring: Path, serving: Path) -> Self:
        """From the two files; SettingsError if one is wrong, DeployError if they do not fit together."""
        settings = MonitoringSettings.load(monitoring)
        alerting = _Section.checked({"alerting": settings.alerting}, monitoring).alerting
        _fits(alerting, ServingSettings.load(serving), monitoring, serving)
        psi = settings.drift.psi
        return cls(alerting, psi.moderate, psi.major, settings.performance.min_auc)


def _fits(alerting: AlertingSettings, service: ServingSettings, monitoring: Path, serving: Path) -> None:
    buckets, timeout = service.metrics.duration_buckets, service.limits.timeout_seconds
    objective, limits = alerting.objectives.latency_seconds, alerting.limits
    if objective not in buckets:
        raise DeployError(
            f"{monitoring}: alerting.objectives.latency_seconds: must be one of metrics.duration_buckets of {serving}"
        )
    if max(limits.p99_seconds, limits.batch_p99_seconds) >= min(timeout, max(buckets)):
        raise DeployError(
            f"{monitoring}: alerting.limits: p99_seconds and batch_p99_seconds must be less than "
            f"limits.timeout_seconds and the largest of metrics.duration_buckets of {serving}"
        )
