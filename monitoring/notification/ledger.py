"""Which alarms have been told, kept in a file that several commands may use at once."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from monitoring.errors import NotificationError


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Told:
    """An alarm that was told of and has not ended.

    Attributes
    ----------
    began : when it was first told of
    last : when it was last told of
    """

    severity: str
    began: AwareDatetime
    last: AwareDatetime


_ENTRIES: TypeAdapter[dict[str, Told]] = TypeAdapter(dict[str, Told])


@dataclass(frozen=True)
class Ledger:
    """The file."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[Entries]:
        """What it holds, for this process alone until the block ends; NotificationError if it is not a ledger."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield Entries(self.path, self._read())
        except OSError as error:
            raise NotificationError(f"{self.path}: cannot be used ({error.strerror})") from None

    def _read(self) -> dict[str, Told]:
        if not self.path.exists():
            return {}
        try:
            return _ENTRIES.validate_json(self.path.read_bytes())
        except ValidationError:
            raise NotificationError(
                f"{self.path}: does not say which alarms were told; remove it to begin anew"
            ) from None


@dataclass(frozen=True)
class Entries:
    """The alarms that were told of, by key."""

    path: Path
    told: dict[str, Told]

    def get(self, key: str) -> Told | None:
        """What was told of the alarm; None where it is not known."""
        return self.told.get(key)

    def put(self, key: str, told: Told) -> None:
        """Note it, on the disk."""
        self._write({**self.told, key: told})

    def remove(self, key: str) -> None:
        """Forget it, on the disk."""
        self._write({known: told for known, told in self.told.items() if known != key})

    def _write(self, told: dict[str, Told]) -> None:
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with scratch.open("w") as file:
            json.dump({key: _entry(entry) for key, entry in sorted(told.items())}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.path)


def _entry(told: Told) -> dict[str, Any]:
    times: dict[str, datetime] = {"began": told.began, "last": told.last}
    return {"severity": told.severity, **{name: time.isoformat() for name, time in times.items()}}
