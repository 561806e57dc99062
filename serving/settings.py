"""The settings of the service: configs/serving.yaml as frozen models."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from features import Settings


class Limits(Settings):
    """What one request may ask for."""

    body_bytes: int = Field(ge=1024)
    """Of a batch."""
    application_bytes: int = Field(ge=1024)
    """Of a single application or feature vector."""
    batch_applications: int = Field(ge=1)
    timeout_seconds: float = Field(gt=0)


class RunnerSettings(Settings):
    """How concurrent single requests are scored together."""

    max_batch_rows: int = Field(ge=1)
    max_waiting: int = Field(ge=1)
    retry_after_seconds: int = Field(ge=1)


class ServingSettings(Settings):
    """All of configs/serving.yaml. `bentoml` is BentoML's own service configuration, which BentoML checks."""

    model: str = Field(min_length=1)
    limits: Limits
    runner: RunnerSettings
    bentoml: dict[str, Any]
