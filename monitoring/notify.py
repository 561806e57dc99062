"""Notifications: commands send their findings to Alertmanager, which groups, repeats, silences and delivers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from monitoring.errors import NotificationError
from monitoring.settings import NotificationSettings

ADDRESS = "ALERTMANAGER_URL"
"""The environment variable with the address of Alertmanager, or those of all members of its cluster with commas."""

_ALERTS = "/api/v2/alerts"
# only these answers may be different next time; any other status means that the request is wrong
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Alarm:
    """The finding of a check: an alarm, or the end of one.

    Attributes
    ----------
    name : of the check; name, severity and labels together identify the alarm
    firing : whether the alarm is on; false ends it
    severity : critical, warning or info
    summary : one line; figures, never an applicant's value
    """

    name: str
    firing: bool
    severity: str
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def document(self, now: datetime, lasts: timedelta) -> dict[str, object]:
        """The alarm as Alertmanager's API takes it; it ends after `lasts` unless it is sent again.

        https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
        """
        return {
            "labels": {"alertname": self.name, "severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary},
            "startsAt": now.isoformat(),
            "endsAt": (now + lasts if self.firing else now).isoformat(),
        }


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would turn the POST into a GET, and its answer would look like success."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow no redirect."""


@dataclass(frozen=True)
class _Failure:
    reason: str
    again: bool


class Alertmanager:
    """Alertmanager, or all members of its cluster.

    Parameters
    ----------
    addresses : http or https, with commas between them; they may hold a password and appear in no error
    sleep : waits between attempts
    """

    def __init__(
        self, addresses: str, settings: NotificationSettings, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._requests = [_request(address.strip()) for address in addresses.split(",")]
        self._settings = settings
        self._sleep = sleep
        self._opener = build_opener(_NoRedirects)

    @classmethod
    def named(cls, environment: Mapping[str, str], settings: NotificationSettings) -> Alertmanager:
        """The Alertmanager that the environment names; NotificationError if it names none."""
        addresses = environment.get(ADDRESS)
        if not addresses:
            raise NotificationError(f"{ADDRESS} is not set: name an Alertmanager to send alarms to")
        return cls(addresses, settings)

    def tell(self, alarm: Alarm, now: datetime) -> None:
        """Send the alarm to every member of the cluster; NotificationError if none takes it."""
        # Members share what they have delivered, but not the alarms they got, so each one must be sent it.
        body = json.dumps([alarm.document(now, timedelta(seconds=self._settings.lasts_seconds))]).encode()
        failures = [self._post(request, body) for request in self._requests]
        if all(failures):
            raise NotificationError(f"{ADDRESS}: no Alertmanager took the alarm: {'; '.join(filter(None, failures))}")

    def _post(self, request: tuple[str, dict[str, str]], body: bytes) -> str | None:
        """Why one member did not take the alarm after all attempts; None if it did."""
        attempt, pause = 1, self._settings.pause_seconds
        while (failure := self._attempt(request, body)) is not None:
            if not failure.again or attempt == self._settings.attempts:
                return f"{failure.reason} in {attempt} attempts"
            self._sleep(pause)
            attempt, pause = attempt + 1, pause * 2
        return None

    def _attempt(self, request: tuple[str, dict[str, str]], body: bytes) -> _Failure | None:
        url, headers = request
        posted = Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - http(s), as checked
        try:
            with self._opener.open(posted, timeout=self._settings.timeout_seconds):
                return None
        except HTTPError as error:
            with error:
                return _Failure(f"status {error.code}", again=error.code in _AGAIN)
        except (OSError, HTTPException) as error:  # its text may hold the address
            reason = getattr(error, "reason", error)
            return _Failure(type(reason if isinstance(reason, Exception) else error).__name__, again=True)


def _request(address: str) -> tuple[str, dict[str, str]]:
    """The address of the API, and the headers of a request to it."""
    try:
        parts = urlsplit(address)
        reachable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        reachable = False
    if not reachable:
        raise NotificationError(f"{ADDRESS}: each address must be http:// or https://, a host, and a port if need be")
    headers = {"Content-Type": "application/json"}
    # urllib would take a password in the address for a part of the host's name
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}{_ALERTS}", headers
