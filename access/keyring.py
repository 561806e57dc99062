"""The keys of a running service: those of a file, read again when it changes."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from weakref import finalize, ref

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from .errors import KeyFileError
from .grant import Grant, Grants
from .keyfile import KeyFile
from .settings import AccessSettings

_LOGGER = logging.getLogger("bentoml.credit_scoring")

VARIABLE = "CREDIT_SCORING_KEYS"
"""The environment variable that names the file of keys."""

_Version = tuple[int, int, int] | None
"""Inode, time and size of the file; None where it is not there."""


class Keyring:
    """The keys in the file at `path`; KeyFileError if they cannot be read at first.

    A thread looks at the file beside the event loop, through symbolic links, which Kubernetes swaps. Keys that cannot
    be read leave the old ones in force. Nothing is kept of a request: a key that is gone from the file is refused.
    """

    def __init__(self, path: Path, settings: AccessSettings, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._path = path
        self._settings = settings
        self._failures = Counter(
            "credit_scoring_keys_reload_failures_total", "Files of keys that could not be read", registry=registry
        )
        self._stale = Gauge(
            "credit_scoring_keys_stale", "1 while the file of keys cannot be read and older keys are in force",
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self._count = Gauge(
            "credit_scoring_keys", "Keys in force", registry=registry, multiprocess_mode="livemin"
        )  # fmt: skip
        self._version = _version(path)
        self._grants = Grants(KeyFile.read(path).keys, settings)
        self._tell(stale=False)
        self._stopped = threading.Event()

    def find(self, presented: bytes) -> Grant | None:
        """The grant of a key; None if it is none of those in force."""
        return self._grants.find(presented)

    def watch(self) -> None:
        """Look at the file from now on, until `close` or the end of this object."""
        arguments = (ref(self), self._stopped, self._settings.reload_seconds)
        threading.Thread(target=_watch, args=arguments, name="keys", daemon=True).start()
        finalize(self, self._stopped.set)

    def close(self) -> None:
        """Look at the file no more."""
        self._stopped.set()

    def refresh(self) -> None:
        """Take the keys from the file if it has changed."""
        version = _version(self._path)  # before reading: what is written meanwhile is read at the next look
        if version == self._version:
            return
        self._version = version
        try:
            keys = KeyFile.read(self._path).keys
        except KeyFileError as error:
            _LOGGER.error("the keys in force stay: %s", error)  # noqa: TRY400 - one line, no traceback
            self._failures.inc()
            self._tell(stale=True)
        else:
            self._grants = Grants(keys, self._settings, self._grants)
            _LOGGER.info("keys read again: %d in force", len(keys))
            self._tell(stale=False)

    def _tell(self, *, stale: bool) -> None:
        self._stale.set(stale)
        self._count.set(len(self._grants))


def _watch(keyring: ref[Keyring], stopped: threading.Event, seconds: float) -> None:
    while not stopped.wait(seconds):
        watched = keyring()
        if watched is None:
            return
        watched.refresh()


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
