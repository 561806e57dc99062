"""What the rules of Prometheus and the routes of Alertmanager are made from: `alerting` in configs/monitoring.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, HttpUrl, model_validator

from features.settings import Settings
from monitoring.alerting.duration import Duration, Written


class Severity(StrEnum):
    """How soon somebody must look."""

    CRITICAL = "critical"
    """Now: a person is woken."""
    WARNING = "warning"
    """On the next working day."""
    INFO = "info"
    """To be read beside other alerts."""
    NONE = "none"
    """Never: the heartbeat of the alerting itself."""


class Holds(Settings):
    """How long a condition must last before an alert fires."""

    short: Written
    steady: Written
    settled: Written


class Windows(Settings):
    """Over how long figures are taken."""

    rate: Written
    """Rates and quantiles of traffic."""
    recent: Written
    """Decisions of the present, which are compared with ..."""
    baseline: Written
    """... those of this long before."""


class Burn(Settings):
    """A pair of windows over which the error budget must not be spent `factor` times as fast as it may be."""

    severity: Severity
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
    """Share of scoring requests that are not answered with 5xx."""
    latency_seconds: float = Field(gt=0)
    """A single request is fast up to this; one of the buckets of configs/serving.yaml."""
    latency_share: float = Field(gt=0, lt=1)
    """Share of single requests that are fast."""
    burns: tuple[Burn, ...] = Field(min_length=1)


class Limits(Settings):
    """Beyond these an alert fires."""

    error_ratio: float = Field(gt=0, lt=1)
    shed_ratio: float = Field(gt=0, lt=1)
    invalid_ratio: float = Field(gt=0, lt=1)
    p99_seconds: float = Field(gt=0)
    """Of single requests."""
    batch_p99_seconds: float = Field(gt=0)
    category_jump: float = Field(gt=0, lt=1)
    """Rise of a feature's share of missing or unseen values over its own baseline."""
    decline_shift: float = Field(gt=0, lt=1)
    """Change of the share of declines against the baseline."""
    decline_rows: int = Field(ge=1)
    """Decisions that a share of declines needs before it is compared."""
    drift_window_age: Written
    segment_age: Written
    """Of the decision log's open segments."""
    unclosed_age: Written
    """Of the decision log's finished segments that are not closed."""
    performance_age: Written
    thread_age: Written
    """Since a thread or timer of the service last did its work; longer than any of them waits."""


class Routing(Settings):
    """How Alertmanager groups and repeats, and where it delivers."""

    group_wait: Written
    group_interval: Written
    heartbeat_interval: Written
    repeat_interval: dict[Severity, Written]
    receivers: dict[Severity, HttpUrl]

    @model_validator(mode="after")
    def _covers_every_severity(self) -> Self:
        if set(self.receivers) != set(Severity):
            raise ValueError(f"receivers must name {', '.join(Severity)}")
        if set(self.repeat_interval) != set(Severity) - {Severity.NONE}:
            raise ValueError(f"repeat_interval must name {', '.join(set(Severity) - {Severity.NONE})}")
        return self


class AlertingSettings(Settings):
    """The section `alerting`."""

    job: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the scrape job."""
    targets: tuple[str, ...] = Field(min_length=1)
    credentials_file: str | None = Field(min_length=1)
    """Where Prometheus finds an API key with the scope `admin`; null where the service asks for none."""
    alertmanagers: tuple[str, ...] = Field(min_length=1)
    runbook: str = Field(min_length=1)
    scrape_interval: Written
    holds: Holds
    windows: Windows
    objectives: Objectives
    limits: Limits
    routing: Routing

    def faster(self, factor: int) -> Self:
        """The same settings with every duration `factor` times shorter: rules that can be watched firing."""
        return type(self).model_validate(_shortened(self.model_dump(), factor))


def _shortened(value: Any, factor: int) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(part, factor) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_shortened(part, factor) for part in value)
    try:
        return str(Duration.parse(value) / factor)
    except ValueError:
        return value
