"""How receivers are told of alarms: `notification` in configs/monitoring.yaml."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from features.settings import Settings


class Format(StrEnum):
    """What the receiver reads."""

    SLACK = "slack"
    """An incoming webhook of Slack, or of what understands its messages."""
    ALERTMANAGER = "alertmanager"
    """The body of Alertmanager's webhooks, version 4."""


class NotificationSettings(Settings):
    """The section `notification`. Durations are in seconds."""

    format: Format
    attempts: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)
    """Of one attempt."""
    first_pause_seconds: float = Field(ge=0)
    """After the first failure; it doubles from attempt to attempt."""
    longest_pause_seconds: float = Field(ge=0)
    """Also where the receiver asks for a longer one."""
    repeat_after_seconds: float = Field(gt=0)
    """An alarm that lasts is told of again after this long."""
