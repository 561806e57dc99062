"""Load that counts what became of every single request: nothing is retried, nothing is left out."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_TIMEOUT_SECONDS = 20.0
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: `result` is the status of its answer, or the kind of error that came in its place.

    Attributes
    ----------
    connected, sent, ended : seconds of the monotonic clock; None if it came to no connection, or was not sent
    version : of the model that answered
    """

    result: str
    connected: float | None
    sent: float | None
    ended: float
    version: str | None = None

    @property
    def answered(self) -> bool:
        """Whether a decision came."""
        return self.result == "200"


class Load:
    """POSTs one body again and again from several threads, from the beginning of the `with` block to its end.

    Parameters
    ----------
    address : host and port
    per_second : requests of all threads together, at most
    key : to send with each; None where none is asked for
    """

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        body: bytes,
        *,
        threads: int,
        per_second: float,
        key: str | None = None,
    ) -> None:
        self._address, self._path, self._body, self._key = address, path, body, key
        self._pause = threads / per_second
        self._stopping = threading.Event()
        self._outcomes: list[Outcome] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """Of the requests that have ended so far."""
        return tuple(self._outcomes)

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - self._pause)
            self._outcomes.append(request(self._address, self._path, self._body, key=self._key))


def request(address: tuple[str, int], path: str, body: bytes, *, key: str | None = None) -> Outcome:
    """POST once, over a connection of its own."""
    connected = sent = None
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_SECONDS)
    try:
        connection.connect()
        connected = time.monotonic()
        connection.request("POST", path, body, _HEADERS if key is None else {**_HEADERS, "X-API-Key": key})
        sent = time.monotonic()
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return Outcome(type(error).__name__, connected, sent, time.monotonic())
    finally:
        connection.close()
    version = json.loads(content)["model_version"] if answer.status == http.client.OK else None
    return Outcome(str(answer.status), connected, sent, time.monotonic(), version)


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many requests ended in which way."""
    return dict(sorted(Counter(outcome.result for outcome in outcomes).items()))
