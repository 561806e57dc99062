"""Decide whether and when a call is tried again."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic`, in seconds, measures how long a call lasts; `now`, in UTC, is compared to a Retry-After date."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _utc_now


# 504 is not one: as after a read timeout, the service may have gone on with the request.
_TRANSIENT_STATUSES = frozenset({429, 503})
_TRANSIENT_ERRORS = (httpx.ConnectTimeout, httpx.PoolTimeout, httpx.NetworkError, httpx.RemoteProtocolError)
_MOST_DOUBLINGS = 64  # 2.0 ** 1024 is an OverflowError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Rules for trying a call again after 429, 503 and broken connections.

    Before attempt k + 1 the client waits a time drawn evenly from [0, min(`longest_pause`, `first_pause` * 2**(k-1)))
    (full jitter: Brooker, "Exponential Backoff and Jitter", AWS 2015), after a Retry-After of at most
    `longest_retry_after`. All times are in seconds.

    Parameters
    ----------
    attempts
        Most attempts of one call; 1 never tries again.
    within
        No attempt after the first starts later than this, so a call lasts at most this and one attempt.
    draw
        Draws from [0, 1).

    Examples
    --------
    >>> Retry(first_pause=0.1, draw=lambda: 0.5).pause(3)
    0.2
    >>> Retry(attempts=0)
    Traceback (most recent call last):
    ValueError: attempts must be at least 1
    """

    attempts: int = 4
    within: float = 30.0
    first_pause: float = 0.1
    longest_pause: float = 5.0
    longest_retry_after: float = 20.0
    draw: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        for name in ("within", "first_pause", "longest_pause", "longest_retry_after"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of seconds, 0 or more")

    def pause(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after so many failed attempts (1 or more)."""
        most = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        least = min(retry_after or 0.0, self.longest_retry_after)
        return least + self.draw() * most


def is_transient(reply: httpx.Response | httpx.RequestError) -> bool:
    """Whether the same request may succeed a little later; 409 only where it says when.

    Read and write timeouts are not transient: the server may still work on the request, and would get it twice.
    """
    if isinstance(reply, httpx.Response):
        # An earlier attempt with the same idempotency key is under way; no other 409 passes by waiting.
        under_way = reply.status_code == httpx.codes.CONFLICT and "Retry-After" in reply.headers
        return under_way or reply.status_code in _TRANSIENT_STATUSES
    return isinstance(reply, _TRANSIENT_ERRORS)


def is_unknown(reply: httpx.Response | httpx.RequestError) -> bool:
    """Whether the server may have done the request without its answer coming through."""
    never_sent = (httpx.ConnectTimeout, httpx.ConnectError, httpx.PoolTimeout)
    return isinstance(reply, httpx.RequestError) and not isinstance(reply, never_sent)


def retry_after(reply: httpx.Response | httpx.RequestError, now: Callable[[], datetime]) -> float | None:
    """Return the seconds that Retry-After asks for, 0 or more; None if it is absent or unreadable."""
    if not isinstance(reply, httpx.Response) or "Retry-After" not in reply.headers:
        return None
    value = reply.headers["Retry-After"]
    return float(value) if value.isascii() and value.isdigit() else _until(value, now)


def _until(date: str, now: Callable[[], datetime]) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    # parsedate_to_datetime gives no time zone for "-0000", which RFC 5322 defines as UTC.
    aware = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (aware - now()).total_seconds())
