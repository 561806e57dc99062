"""configs/capacity.yaml as frozen models."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from jobs.settings import Settings


class Pod(Settings):
    """What one pod has."""

    cores: float = Field(gt=0)
    memory_gb: float = Field(gt=0)


class Pods(Settings):
    """Between how many autoscaling chooses."""

    min: int = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError("max must not be below min")
        return self


class Prices(Settings):
    """USD."""

    source: str = Field(min_length=1)
    as_of: str = Field(min_length=1)
    core_hour: float = Field(ge=0)
    gb_hour: float = Field(ge=0)
    balancer_hour: float = Field(ge=0)
    balancer_unit_hour: float = Field(ge=0)
    """For each gigabyte that passes in an hour."""


class CapacitySettings(Settings):
    """All of configs/capacity.yaml."""

    pod: Pod
    utilisation: float = Field(gt=0, le=1)
    pods: Pods
    loads: tuple[float, ...] = Field(min_length=1)
    """Single decisions per second."""
    prices: Prices
