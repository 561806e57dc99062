"""From request to answer, without I/O.

A generator yields the attempts to make and is sent what each brings; a client only carries them out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from .answer import Answer, Reply, accepted, answer_in
from .clock import Clock
from .errors import ClientError, ConnectionFailed, Overloaded, ServerError, TimedOut
from .request import Request
from .retry import Retry, is_transient, retry_after

_PROBE_SECONDS = 5.0
_POLL_SECONDS = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send `request` after `after` seconds; `timeout` in seconds, where it is not None, replaces the client's."""

    request: Request
    after: float = 0.0
    timeout: float | None = None


Steps = Generator[Attempt, Reply, T]
"""Attempts of one call, and in the end its result."""


def exchange(request: Request, *, retry: Retry, clock: Clock) -> Steps[Answer]:
    """Send a request until it is answered or `retry` gives up; then raise what the last attempt brought."""
    start = clock.monotonic()
    reply = yield Attempt(request)
    for failures in range(1, retry.attempts):
        if not is_transient(reply):
            break
        pause = retry.pause(failures, retry_after(reply, clock.now))
        if clock.monotonic() - start + pause > retry.within:
            break
        reply = yield Attempt(request, after=pause)
    return answer_in(reply, request)


def probe(request: Request, *, timeout: float = _PROBE_SECONDS, after: float = 0.0) -> Steps[ClientError | None]:
    """Ask once whether the server is ready; what is in the way, or None.

    Raises any ResponseError that waiting does not cure, such as 404.
    """
    reply = yield Attempt(request, after=after, timeout=min(timeout, _PROBE_SECONDS))
    try:
        accepted(reply, request)
    except (ConnectionFailed, TimedOut, Overloaded, ServerError) as obstacle:
        return obstacle
    return None


def wait_until_ready(request: Request, timeout: float, *, clock: Clock) -> Steps[None]:
    """Probe until the server is ready; raise TimedOut, caused by the last obstacle, after `timeout` seconds."""
    if not timeout > 0:
        raise ValueError("timeout must be a positive number of seconds")
    deadline = clock.monotonic() + timeout
    obstacle, pause = None, 0.0
    while (left := deadline - clock.monotonic() - pause) > 0:
        obstacle = yield from probe(request, timeout=left, after=pause)
        if obstacle is None:
            return
        pause = _POLL_SECONDS
    raise TimedOut(f"the server was not ready within {timeout:g} s", request.request_id) from obstacle
