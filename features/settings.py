"""What is chosen and fitted when features are made."""

from __future__ import annotations

from pydantic import Field

from features.catalogue import FeatureSet
from features.schema import ProtectedAttribute
from jobs.settings import Settings


class Clipping(Settings):
    """Quantiles of the training fold at which amounts, measures and counts are clipped."""

    lower: float = Field(ge=0, lt=0.5)
    upper: float = Field(gt=0.5, le=1)


class Filters(Settings):
    """Optional filters, fitted in the fold; null switches one off."""

    constant: float | None = Field(gt=0, le=1)
    """Drop a feature whose most frequent value (missing included) has at least this share of the rows."""
    correlation: float | None = Field(gt=0, le=1)
    """Drop the later of two features whose absolute correlation exceeds this."""
    importance: float | None = Field(ge=0, le=1)
    """Drop a feature whose share of the total gain of a first model is at most this."""


class FeatureSettings(Settings):
    """What is chosen and fitted when features are made from a training fold."""

    sets: tuple[FeatureSet, ...] = Field(min_length=1)
    without: tuple[ProtectedAttribute, ...]
    """Protected attributes that no feature may read."""
    category_min_count: int = Field(ge=1)
    """Levels rarer than this in the fold become the unknown category."""
    clip: Clipping | None
    filters: Filters
