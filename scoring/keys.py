"""API keys: issues them, and keeps their salted hashes in a file."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AwareDatetime, Field, field_validator

from jobs.errors import ProjectError, SettingsError
from jobs.output import locked, replaced
from jobs.settings import SETTINGS_BYTES, Settings, read_regular

KEYS_VARIABLE = "CREDIT_SCORING_KEYS"


class AccessError(ProjectError):
    """Base of the errors about keys and access. No message shows a key."""


class KeyFileError(AccessError):
    """A file of keys cannot be read or written, or lacks the named key."""


class Scope(StrEnum):
    """A group of routes. No scope contains another: a key has the scopes that it was given, and no more."""

    PREDICT = "predict"
    """Scoring, and information on the model that scores."""
    EXPLAIN = "explain"
    """The decision on an application with all that it is made of."""
    OVERRIDE = "override"
    """Overriding decisions; the holder of the key is the person who is named in the record."""
    ADMIN = "admin"
    """Everything else: metrics, drift counts, documents, and every route without a scope of its own."""


PREFIX = "csk_"
"""The mark by which scanners for leaked secrets recognise a key."""

_SECRET_BYTES = 32
_SALT_BYTES = 16
_DIGEST_BYTES = 32
_ID_BYTES = 6
ID_PLACE = slice(len(PREFIX), len(PREFIX) + 2 * _ID_BYTES)
"""The place of the id within a key."""

LENGTH = ID_PLACE.stop + 1 + 2 * _SECRET_BYTES
"""Bytes of a key."""

KeyId = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _ID_BYTES}}}$")]
KeyName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class Key(Settings):
    """The kept record of a key, which does not hold the key itself."""

    id: KeyId
    """The public part of the key; it finds, lists and revokes the key."""
    name: KeyName
    """The holder's name."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: AwareDatetime
    requests_per_second: float | None = Field(default=None, gt=0)
    """A rate for this key alone."""
    salt: str = Field(pattern=rf"^[0-9a-f]{{{2 * _SALT_BYTES}}}$")
    digest: str = Field(pattern=rf"^[0-9a-f]{{{2 * _DIGEST_BYTES}}}$")
    """Salted BLAKE2b of the whole key, hexadecimal like the salt."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: the secret, which its holder sees once, and the record that is kept."""

    secret: str = field(repr=False)
    key: Key


def issue(
    name: str, scopes: tuple[Scope, ...], *, created: datetime, requests_per_second: float | None = None
) -> IssuedKey:
    """A new random key; pydantic's ValidationError if the name or the rate is not legal."""
    key_id = secrets.token_hex(_ID_BYTES)
    secret = f"{PREFIX}{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    salt = secrets.token_bytes(_SALT_BYTES)
    key = Key(
        id=key_id,
        name=name,
        scopes=scopes,
        created=created,
        requests_per_second=requests_per_second,
        salt=salt.hex(),
        digest=digest_of(secret.encode(), salt).hex(),
    )
    return IssuedKey(secret, key)


def digest_of(secret: bytes, salt: bytes) -> bytes:
    """The hash of a key, with which requests are compared."""
    # A fast hash is safe, since nobody can guess 256 random bits; a slow one would cost time at every request.
    return blake2b(secret, digest_size=_DIGEST_BYTES, salt=salt).digest()


def nobody() -> tuple[bytes, bytes]:
    """Random salt and digest that belong to no key."""
    # A request with an unknown id is compared with these: its time must not tell whether the id exists.
    return secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_DIGEST_BYTES)


_HEADER = "# Made by `python -m scoring keys`. It holds no key, only salted hashes.\n"
_OWNER_ONLY = 0o600


class KeyFile(Settings):
    """The content of a file of keys."""

    keys: tuple[Key, ...]

    @field_validator("keys")
    @classmethod
    def _tell_keys_apart(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        for what, values in (("id", [key.id for key in keys]), ("name", [key.name for key in keys])):
            if len(set(values)) < len(values):
                raise ValueError(f"two keys have the same {what}")
        return keys

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file at `path`; KeyFileError if it cannot be read or does not fit."""
        return cls.of(content_of(path), path)

    @classmethod
    def of(cls, content: bytes, path: Path) -> Self:
        """The file whose content was read at `path`; KeyFileError if it does not fit."""
        try:
            return cls.parse(content, path)
        except SettingsError as error:
            raise KeyFileError(str(error)) from None

    def write(self, path: Path) -> None:
        """Replace the file at `path` in one step; KeyFileError if that is not possible."""
        rows = [key.model_dump(mode="json", exclude_none=True) for key in self.keys]
        # The service may run as another user than the one who makes its keys, so that the file keeps its owner.
        # Durable, since a revoked key must not come back after a power cut.
        with _writing(path), replaced(path, mode=_OWNER_ONLY, durable=True, keep_owner=True) as file:
            file.write(f"{_HEADER}{_yaml({'keys': rows})}".encode())


def content_of(path: Path) -> bytes:
    """The bytes of the file; KeyFileError if it cannot be read, or if every user of the machine may write it."""
    try:
        content = read_regular(path, SETTINGS_BYTES)
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # a name with a NUL in it
        raise KeyFileError(f"{str(path)!r}: no file has this name") from None
    if mode & stat.S_IWOTH:
        raise KeyFileError(f"{path}: everybody may write it, so that anybody could add a key: chmod o-w it")
    return content


def write_warning(path: Path) -> str | None:
    """A warning that others may write the file, None if there is no reason for one."""
    found = path.stat()
    if found.st_mode & stat.S_IWGRP:
        return f"{path}: its group may write it"
    if found.st_uid not in (0, os.geteuid()):
        return f"{path}: it belongs to another user"
    return None


def create_key(path: Path, issued: IssuedKey) -> None:
    """Add a key to the file, and make the file if need be; KeyFileError if a key has that name already."""
    with _exclusive(path):
        present = KeyFile.read(path).keys if path.exists() else ()
        if issued.key.name in {key.name for key in present}:
            raise KeyFileError(f"{path}: there is a key named {issued.key.name} already")
        KeyFile(keys=(*present, issued.key)).write(path)


def revoke_key(path: Path, named: str) -> Key:
    """Remove the key with this id or name from the file, and return it; KeyFileError if there is none."""
    with _exclusive(path):
        present = KeyFile.read(path).keys
        found = [key for key in present if key.id == named] or [key for key in present if key.name == named]
        if not found:
            raise KeyFileError(f"{path}: there is no key with this id or name")
        KeyFile(keys=tuple(key for key in present if key is not found[0])).write(path)
        return found[0]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """A block for one writer at a time."""
    # The folder is locked: the file is replaced, so that a lock on it would guard the old one.
    with _writing(path), locked(path.resolve().parent):
        yield


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror})") from None


def _yaml(content: dict[str, Sequence[Any]]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
