"""Settings: YAML files read once into frozen, strict models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .column import Protected
from .errors import SettingsError
from .feature import FeatureSet


class Settings(BaseModel):
    """Base of every settings model: an unknown key or a value of the wrong kind is an error that names the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The settings in the YAML file at `path`; SettingsError if it cannot be read or does not fit."""
        try:
            content = yaml.load(path.read_bytes(), Loader=_UniqueKeys)  # noqa: S506 - a safe loader
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not YAML ({_fault(error)})") from None
        return cls.checked(content, path)

    @classmethod
    def checked(cls, content: object, source: Path) -> Self:
        """The settings that `content` holds, read from `source`; SettingsError if it does not fit."""
        try:
            return cls.model_validate_json(json.dumps(content, default=str), strict=True)
        except ValidationError as error:
            raise SettingsError(f"{source}: {_listed(error)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, which would keep the last of repeated keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; ConstructorError if a key is there twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for i, key in enumerate(keys) if key in keys[:i]]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"repeated key: {repeated[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


def _fault(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong and in which line, without the line: a file of secrets may be wrong too."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return str(getattr(error, "reason", type(error).__name__))


def _listed(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())


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
    without: tuple[Protected, ...]
    """Protected attributes that no feature may read."""
    category_min_count: int = Field(ge=1)
    """Levels rarer than this in the fold become the unknown category."""
    clip: Clipping | None
    filters: Filters
