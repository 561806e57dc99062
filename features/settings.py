"""Settings: YAML files read once into frozen, strict models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.catalogue import FeatureSet
from features.errors import FileError, SettingsError
from features.reading import printable, read_regular, read_yaml
from features.schema import ProtectedAttribute

SETTINGS_BYTES = 1 << 19
"""Of a file of settings, at most: 2,500 API keys."""

_LISTED = 8
"""Faults that are told of one file."""


class Settings(BaseModel):
    """Base of every settings model: an unknown key or a value of the wrong kind is an error that names the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The settings in the YAML file at `path`; SettingsError if it cannot be read or does not fit."""
        try:
            content = read_regular(path, SETTINGS_BYTES)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, source: Path) -> Self:
        """The settings that some YAML holds, read from `source`; SettingsError if it does not fit."""
        try:
            return cls.checked(read_yaml(content), source)
        except FileError as error:
            raise SettingsError(f"{source}: {error}") from None

    @classmethod
    def checked(cls, content: object, source: Path) -> Self:
        """The settings that `content` holds, read from `source`; SettingsError if it does not fit."""
        try:
            written = json.dumps(content, default=str)
        except ValueError as error:  # a number of too many digits, a document that contains itself
            raise SettingsError(f"{source}: {printable(str(error))}") from None
        try:
            return cls.model_validate_json(written, strict=True)
        except ValidationError as error:
            raise SettingsError(f"{source}: {_listed(error)}") from None


def _listed(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    faults.sort(key=lambda fault: fault["type"] == "missing")  # a key that is not known explains those that are missing
    told = [f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in faults[:_LISTED]]
    more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
    return "; ".join([printable(one) for one in told] + more)


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
