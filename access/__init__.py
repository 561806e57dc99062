"""Who may ask: API keys with scopes, the file that holds their hashes, and how often each may ask."""

from __future__ import annotations

from .bucket import TokenBucket
from .errors import AccessError, KeyFileError
from .grant import Grant, Grants
from .key import IssuedKey, Key, KeyName, issue
from .keyfile import KeyFile, create_key, revoke_key
from .keyring import VARIABLE, Keyring
from .scope import Scope
from .settings import AccessSettings

__all__ = [
    "VARIABLE",
    "AccessError",
    "AccessSettings",
    "Grant",
    "Grants",
    "IssuedKey",
    "Key",
    "KeyFile",
    "KeyFileError",
    "KeyName",
    "Keyring",
    "Scope",
    "TokenBucket",
    "create_key",
    "issue",
    "revoke_key",
]
