"""Load that counts what became of every single request: nothing is retried, nothing is left out."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from types import TracebackType
from typing import Any, Self

_TIMEOUT_SECONDS = 20.0
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: `result` is the status of its answer, or the kind of error that came in its place.

    Attributes
    ----------
    connected, sent, ended : seconds of the monotonic clock; None if it came to no connection, or was not sent
    body : position of what was sent among the bodies of the load
    decision : the answer, where one came
    """

    result: str
    connected: float | None
    sent: float | None
    ended: float
    body: int = 0
    decision: Mapping[str, Any] | None = None

    @property
    def answered(self) -> bool:
        """Whether a decision came."""
        return self.result == "200"

    @property
    def version(self) -> str | None:
        """Of the model that answered."""
        return None if self.decision is None else str(self.decision["model_version"])


class Load:
    """POSTs bodies in turn from several threads, from the beginning of the `with` block to its end.

    Parameters
    ----------
    address : host and port
    per_second : requests of all threads together, at most
    key : to send with each; None where none is asked for
    tls : how to believe the server; None for plain HTTP
    """

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        *bodies: bytes,
        threads: int,
        per_second: float,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address, self._path, self._bodies, self._key, self._tls = address, path, bodies, key, tls
        self._turns = count()
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
            turn = next(self._turns) % len(self._bodies)
            outcome = request(self._address, self._path, self._bodies[turn], key=self._key, tls=self._tls)
            self._outcomes.append(replace(outcome, body=turn))


def request(
    address: tuple[str, int], path: str, body: bytes, *, key: str | None = None, tls: ssl.SSLContext | None = None
) -> Outcome:
    """POST once, over a connection of its own."""
    # with http.client, unlike httpx, the times of connecting and sending can be taken one by one
    connected = sent = None
    connection = _connection(address, tls)
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
    decision = json.loads(content) if answer.status == http.client.OK else None
    return Outcome(str(answer.status), connected, sent, time.monotonic(), decision=decision)


def _connection(address: tuple[str, int], tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection(*address, timeout=_TIMEOUT_SECONDS)
    return http.client.HTTPSConnection(*address, timeout=_TIMEOUT_SECONDS, context=tls)


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many requests ended in which way."""
    return dict(sorted(Counter(outcome.result for outcome in outcomes).items()))
