"""Keys for services under test."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from scoring.keys import KEYS_VARIABLE, KeyFile, Scope, create_key, issue, revoke_key

CREATED = datetime(2026, 11, 22, tzinfo=UTC)


class Keys:
    """A file of keys, and the keys themselves by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {KEYS_VARIABLE: str(self.path)}

    def create(self, name: str, *scopes: Scope, requests_per_second: float | None = None) -> str:
        issued = issue(name, scopes, created=CREATED, requests_per_second=requests_per_second)
        create_key(self.path, issued)
        self.secrets[name] = issued.secret
        return issued.secret

    def revoke(self, name: str) -> None:
        revoke_key(self.path, name)

    def file(self) -> KeyFile:
        return KeyFile.read(self.path)
