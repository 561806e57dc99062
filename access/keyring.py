"""The keys of a running service: those of a file, read again when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from features import Heartbeat, PeriodicThread

from .errors import KeyFileError
from .grant import Grant, Grants
from .keyfile import KeyFile, content_of, doubt
from .settings import AccessSettings

_LOGGER = logging.getLogger("bentoml.credit_scoring")
_THREAD = "keys"

VARIABLE = "CREDIT_SCORING_KEYS"
"""The environment variable that names the file of keys."""


class Keyring:
    """The keys in the file at `path`; KeyFileError if they cannot be read at first.

    A thread looks at the file beside the event loop, through symbolic links, which Kubernetes swaps. It compares what
    the file holds: time and size are the same where a file is changed twice in a moment. Whatever is wrong with it
    leaves the keys in force. Nothing is kept of a request: a key that is gone from the file is refused.
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
        self._heartbeat = Heartbeat(_THREAD, registry=registry)
        content = content_of(path)
        self._seen: bytes | str = content
        self._grants = Grants(KeyFile.of(content, path).keys, settings)
        self._tell(stale=False)
        if found := doubt(path):
            _LOGGER.warning("%s: whoever can write the file of keys can add one", found)
        self._thread: PeriodicThread | None = None

    def find(self, presented: bytes) -> Grant | None:
        """The grant of a key; None if it is none of those in force."""
        return self._grants.find(presented)

    def watch(self) -> None:
        """Look at the file from now on, until `close` or the end of this object."""
        self._thread = PeriodicThread(self._heartbeat, self.refresh, self._settings.reload_seconds, name=_THREAD)

    def close(self) -> None:
        """Look at the file no more."""
        if self._thread is not None:
            self._thread.stop()

    def refresh(self) -> None:
        """Take the keys from the file if it holds something else than before, or can no longer be read."""
        try:
            content: bytes | str = content_of(self._path)
        except KeyFileError as error:
            content = str(error)
        if content == self._seen:
            return
        self._seen = content
        try:
            self._grants = self._granted(content)
        except Exception as error:  # noqa: BLE001 - whatever it is, a file of keys must not end the watch on it
            reason = str(error) if isinstance(error, KeyFileError) else f"{self._path}: {type(error).__name__}"
            _LOGGER.error("the keys in force stay: %s", reason)  # noqa: TRY400 - one line, no traceback
            self._failures.inc()
            self._tell(stale=True)
        else:
            _LOGGER.info("keys read again: %d in force", len(self._grants))
            self._tell(stale=False)

    def _granted(self, content: bytes | str) -> Grants:
        if isinstance(content, str):
            raise KeyFileError(content)
        return Grants(KeyFile.of(content, self._path).keys, self._settings, self._grants)

    def _tell(self, *, stale: bool) -> None:
        self._stale.set(stale)
        self._count.set(len(self._grants))
