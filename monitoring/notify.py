"""Notifications: commands send their findings to Alertmanager, which groups, repeats, silences and delivers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from monitoring.errors import NotificationError
from monitoring.settings import NotificationSettings

ADDRESS = "ALERTMANAGER_URL"
"""The environment variable with the address of Alertmanager, or those of all members of its cluster with commas."""

_ALERTS = "/api/v2/alerts"
_PORTS = range(1, 65_536)
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


@dataclass(frozen=True)
class _Member:
    """One Alertmanager: the address of its API, and the name and password that it asks for."""

    url: httpx.URL
    login: tuple[str, str] | None


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
        self._members = [_member(address.strip()) for address in addresses.split(",")]
        self._settings = settings
        self._sleep = sleep
        self._tls = ssl.create_default_context()  # the machine's certificates: httpx would take those of certifi alone

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
        alarms = [alarm.document(now, timedelta(seconds=self._settings.lasts_seconds))]
        failures = [self._post(member, alarms) for member in self._members]
        if all(failures):
            raise NotificationError(f"{ADDRESS}: no Alertmanager took the alarm: {'; '.join(filter(None, failures))}")

    def _post(self, member: _Member, alarms: list[dict[str, object]]) -> str | None:
        """Why one member did not take the alarms after all attempts; None if it did."""
        attempt, pause = 1, self._settings.pause_seconds
        while (failure := self._attempt(member, alarms)) is not None:
            if not failure.again or attempt == self._settings.attempts:
                return f"{failure.reason} in {attempt} attempts"
            self._sleep(pause)
            attempt, pause = attempt + 1, pause * 2
        return None

    def _attempt(self, member: _Member, alarms: list[dict[str, object]]) -> _Failure | None:
        seconds = self._settings.timeout_seconds
        try:
            # no redirect is followed: it would turn the POST into a GET, and its answer would look like success
            answer = httpx.post(member.url, json=alarms, auth=member.login, timeout=seconds, verify=self._tls)
        except httpx.RequestError as error:
            return _Failure(type(_origin(error)).__name__, again=True)  # its text may hold the address
        status = answer.status_code
        return None if answer.is_success else _Failure(f"status {status}", again=status in _AGAIN)


def _origin(error: BaseException) -> BaseException:
    """The error that httpx wrapped, such as ConnectionRefusedError."""
    while error.__context__ is not None:  # httpcore drops the causes
        error = error.__context__
    return error


def _member(address: str) -> _Member:
    try:
        url = httpx.URL(address)
        reachable = url.scheme in {"http", "https"} and url.host and (url.port is None or url.port in _PORTS)
    except httpx.InvalidURL:
        reachable = False
    if not reachable:
        raise NotificationError(f"{ADDRESS}: each address must be http:// or https://, a host, and a port if need be")
    # httpx logs the addresses that it asks
    api = url.copy_with(userinfo=b"", path=f"{url.path.rstrip('/')}{_ALERTS}", query=None, fragment=None)
    return _Member(api, (url.username, url.password) if url.userinfo else None)
