"""Settings: YAML files read once into frozen, strict models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import SettingsError
from jobs.reading import printable, read_regular, read_yaml

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
            document = read_yaml(content)
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from None
        return cls.checked(document, source)

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
