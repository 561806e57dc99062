"""configs/deploy.yaml as frozen models."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from features.portfolio import Portfolio
from jobs.settings import Settings
from serving.schemas import example_of

ROOT = Path(__file__).resolve().parent.parent


def example_body() -> bytes:
    """The body of a request: the example of the portfolio that configs/training.yaml names."""
    return json.dumps(example_of(Portfolio.named_in(ROOT / "configs/training.yaml"))).encode()


class StopSettings(Settings):
    """The load in the middle of which SIGTERM comes, and how long the end may take."""

    threads: int = Field(ge=1)
    per_second: float = Field(gt=0)
    seconds: float = Field(gt=0)
    within_seconds: int = Field(ge=1)


class ImageSettings(Settings):
    """What the serving image is held to."""

    max_added_megabytes: int = Field(ge=1)
    """Beyond the base image."""
    max_start_seconds: float = Field(gt=0)
    starts: int = Field(ge=1)
    absent: tuple[str, ...]
    """Python packages."""
    absent_programs: tuple[str, ...]
    memory: str = Field(min_length=1)
    stop: StopSettings


class LoadSettings(Settings):
    """How much load there is while something is rehearsed."""

    threads: int = Field(ge=1)
    per_second: float = Field(gt=0)


class RehearsalSettings(Settings):
    """How the manifests are rehearsed."""

    requests: LoadSettings
    settle_seconds: float = Field(gt=0)
    """Of load before and after what is rehearsed."""
    wait_seconds: int = Field(ge=1)
    bad_version_seconds: float = Field(gt=0)
    """For which a version that cannot start is left standing."""


class DeploySettings(Settings):
    """All of configs/deploy.yaml."""

    image: ImageSettings
    rehearsal: RehearsalSettings

    @classmethod
    def delivered(cls) -> DeploySettings:
        """Those of the checkout."""
        return cls.load(ROOT / "configs" / "deploy.yaml")
