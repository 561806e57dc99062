"""An API key: what its holder has, and what is kept of it.

A key is 256 random bits, so nobody finds it by trying and a slow password hash would protect nothing: one salted
BLAKE2b, a microsecond, is as hard to turn round as the key is to guess.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Annotated

from pydantic import AwareDatetime, Field

from features import Settings

from .scope import Scope

PREFIX = "csk_"
"""By which scanners for leaked secrets know a key."""

_SECRET_BYTES = 32
_SALT_BYTES = 16
_DIGEST_BYTES = 32
_ID_BYTES = 6
ID_PLACE = slice(len(PREFIX), len(PREFIX) + 2 * _ID_BYTES)
"""Where a key's id stands in it."""

LENGTH = ID_PLACE.stop + 1 + 2 * _SECRET_BYTES
"""Bytes of a key."""

KeyId = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * _ID_BYTES}}}$")]
KeyName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class Key(Settings):
    """What is kept of a key: everything but the key."""

    id: KeyId
    """The public part of the key, by which it is found, listed and revoked."""
    name: KeyName
    """Who holds it."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: AwareDatetime
    requests_per_second: float | None = Field(default=None, gt=0)
    """A rate of its own."""
    salt: str = Field(pattern=rf"^[0-9a-f]{{{2 * _SALT_BYTES}}}$")
    digest: str = Field(pattern=rf"^[0-9a-f]{{{2 * _DIGEST_BYTES}}}$")
    """Salted BLAKE2b of the whole key, in hexadecimal digits as the salt."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key as its holder gets it, once, and what is kept of it."""

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
    """The hash that is kept of a key."""
    return blake2b(secret, digest_size=_DIGEST_BYTES, salt=salt).digest()


def nobody() -> tuple[bytes, bytes]:
    """Salt and digest that no key has: what an unknown key is compared with."""
    return secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_DIGEST_BYTES)
