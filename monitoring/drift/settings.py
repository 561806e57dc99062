"""The settings of the drift judgement: `drift` of configs/monitoring.yaml."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from features import Settings


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
    tightened: float = Field(gt=0, le=1)
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
