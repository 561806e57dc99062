"""What a feature is: one raw column, or an operation on raw columns of the same row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .operations import Operation


class FeatureSet(StrEnum):
    """Groups of features that a configuration switches on together."""

    BASELINE = "baseline"
    """The raw columns themselves."""
    DOMAIN = "domain"
    """The five ratios and durations that every underwriter looks at."""
    POLYNOMIAL = "polynomial"
    """Squares and products of two of the strongest columns."""
    APPLICATION = "application"
    """What else is known to pay on the application table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the model matrix.

    `operation` is None for a raw column (its value, or the code of its category). `weights` are the constants that
    the operation takes.
    """

    name: str
    description: str
    group: FeatureSet
    sources: tuple[str, ...]
    operation: Operation | None = None
    weights: tuple[float, ...] = ()
