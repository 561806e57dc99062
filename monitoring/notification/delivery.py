"""Posting to a webhook until it has been taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from monitoring.errors import NotificationError
from monitoring.notification.settings import NotificationSettings

_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would turn the POST into a GET, and take the message to an address that nobody gave."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow none."""


@dataclass(frozen=True)
class _Failure:
    """Why an attempt was not taken, and how long the receiver wants to be left alone."""

    reason: str
    again: bool
    pause: float = 0.0


class Webhook:
    """An address that messages are posted to.

    Parameters
    ----------
    address : http or https; it may be a secret, and appears in no error
    sleep : waits between attempts
    """

    def __init__(
        self, address: str, settings: NotificationSettings, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if urlsplit(address).scheme not in {"http", "https"} or not urlsplit(address).hostname:
            raise NotificationError("the address of the receiver must begin with http:// or https:// and a host")
        self._address = address
        self._settings = settings
        self._sleep = sleep
        self._opener = build_opener(_NoRedirects)

    def post(self, body: bytes, *, key: str) -> None:
        """Deliver the JSON; NotificationError if no attempt is taken.

        A receiver whose answer got lost gets the message again, under the same `Idempotency-Key`.
        """
        pause = self._settings.first_pause_seconds
        for attempt in range(1, self._settings.attempts + 1):
            failure = self._attempt(body, key)
            if failure is None:
                return
            if not failure.again or attempt == self._settings.attempts:
                raise NotificationError(
                    f"the receiver did not take the message in {attempt} attempts: {failure.reason}"
                )
            self._sleep(min(max(pause, failure.pause), self._settings.longest_pause_seconds))
            pause *= 2

    def _attempt(self, body: bytes, key: str) -> _Failure | None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        request = Request(self._address, data=body, headers=headers, method="POST")  # noqa: S310 - http(s), as checked
        try:
            with self._opener.open(request, timeout=self._settings.timeout_seconds):
                return None
        except HTTPError as error:
            with error:
                pause = _seconds(error.headers.get("Retry-After"))
                return _Failure(f"status {error.code}", again=error.code in _AGAIN, pause=pause)
        except (OSError, HTTPException) as error:  # its text may hold the address
            return _Failure(_kind(error), again=True)


def _seconds(retry_after: Any) -> float:
    """What Retry-After asks for where it is a number of seconds; a date is not waited for."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _kind(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return type(reason).__name__ if isinstance(reason, Exception) else type(error).__name__
