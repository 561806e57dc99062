"""The settings of the recording part: `recording` of configs/monitoring.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from features import Settings


class OnFailure(StrEnum):
    """What happens to a request whose line cannot be written."""

    DROP = "drop"
    """It is answered, and the missing line is counted."""
    REFUSE = "refuse"
    """It is answered with 503 and counted: nothing is decided that is not recorded."""


class LogSettings(Settings):
    """The decision log, which is kept where DECISION_LOG_DIR says; without that there is none."""

    segment_bytes: int = Field(ge=1 << 16)
    """A worker begins a new segment where the next lines do not fit."""
    segment_seconds: float = Field(gt=0)
    """Or when its first line is this old."""
    on_failure: OnFailure
    hash_clients: bool
    """With the key in DECISION_LOG_KEY or DECISION_LOG_KEY_FILE; false leaves the clients out."""
    settle_seconds: float = Field(ge=1)
    """A finished segment is left alone for so long, in which the drift counts catch up with it."""
    retention_days: int = Field(ge=1)


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
