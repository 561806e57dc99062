"""The receiver of Alertmanager's webhook: alerts that the settings name start a retraining or halt the challengers.

What must be done is a file in a folder before Alertmanager gets its answer, so a killed receiver goes on where it was.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from bentoml._internal.configuration.containers import BentoMLContainer
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from pydantic import BaseModel, ValidationError

from jobs.commandline import say, stop_if_asked
from jobs.errors import OutputError
from jobs.output import locked, write_text, writing
from jobs.settings import read_regular
from monitoring.cli import ALARM
from training.errors import TrainingError
from training.settings import TrainingSettings

HALT_VARIABLE = "CREDIT_SCORING_HALT_FILE"
"""The environment variable that names the file whose content halts every variant but the champion."""
_ACTOR_VARIABLE = "CREDIT_SCORING_ACTOR"
"""Written here, since what defines it loads MLflow, and a receiver waits for most of its time."""
_BODY_BYTES = 1 << 20
_LENGTH_DIGITS = 9
_TOKEN_BYTES = 1 << 12
_SECONDS = 10
_TURN = 0.2
"""Seconds between two looks at whether a signal has come."""


class Alert(BaseModel):
    """One alert of a notification: its labels hold its name."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]

    @property
    def name(self) -> str:
        """The name of its rule; empty if it has none."""
        return self.labels.get("alertname", "")


class Notification(BaseModel):
    """The body of a webhook, version 4; what else it holds is passed over.

    https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """

    version: Literal["4"]
    status: Literal["firing", "resolved"]
    alerts: list[Alert]


@dataclass(frozen=True, slots=True)
class Inbox:
    """A folder of alerts to act on: `waiting`, and `done` as long as they must not be done again.

    Attributes
    ----------
    keep : how long a repetition of an alert that was acted on is passed over, unless the alert ends before
    """

    folder: Path
    keep: timedelta
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        for state in ("waiting", "done"):
            (self.folder / state).mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder to one receiver during the block; TrainingError if another one has it."""
        # The retraining that a killed receiver left does not hold it: retrainings wait under a lock of their own.
        with locked(self.folder, wait=False) as alone:
            if not alone:
                raise TrainingError(f"{self.folder}: another receiver works there")
            yield

    def is_new(self, name: str) -> bool:
        """Whether this alert neither waits nor was acted on lately."""
        waits = any((self.folder / "waiting").glob(f"*-{_key(name)}"))
        return not waits and not any(self._lately(path) for path in self._done(name))

    def add(self, name: str, *, done: bool = False) -> None:
        """Keep an alert that must be acted on, or has been; OutputError if the folder cannot be written."""
        named = f"{self.clock():%Y%m%dT%H%M%S%fZ}-{_key(name)}"
        write_text(self.folder / ("done" if done else "waiting") / named, f"{name}\n")

    def first(self) -> Path | None:
        """The alert that has waited longest; None if none waits."""
        return min((self.folder / "waiting").glob("2*"), default=None)

    def finish(self, waiting: Path) -> None:
        """Pass repetitions of an alert over from now on."""
        waiting.rename(self.folder / "done" / f"{self.clock():%Y%m%dT%H%M%S%fZ}-{waiting.name.partition('-')[2]}")

    def forget(self, name: str) -> None:
        """Let an alert that has ended begin anew."""
        for path in self._done(name):
            path.unlink(missing_ok=True)

    def waiting(self) -> int:
        """How many alerts wait, the one that is acted on included."""
        return sum(1 for _ in (self.folder / "waiting").glob("2*"))

    def _done(self, name: str) -> list[Path]:
        return list((self.folder / "done").glob(f"*-{_key(name)}"))

    def _lately(self, done: Path) -> bool:
        at = datetime.strptime(done.name.partition("-")[0], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
        return self.clock() - at < self.keep


def _key(name: str) -> str:
    # Not Alertmanager's group: one alert that two routes deliver comes in two groups, and one retraining is enough.
    return blake2b(name.encode(), digest_size=16).hexdigest()


@dataclass
class Receiver:
    """Takes notifications from any thread, and acts on them one after the other in the thread of `work`.

    Attributes
    ----------
    actions : what to do when an alert of a name fires
    command, environment : the words of the retraining, to which the reason is added, and its environment
    halt : the file that halts the challengers; None if no action needs it
    """

    actions: Mapping[str, Literal["retrain", "halt"]]
    inbox: Inbox
    command: Sequence[str]
    environment: Mapping[str, str]
    halt: Path | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        name, registry = "credit_scoring_receiver", self.registry
        self._alerts = Counter(f"{name}_alerts", "Alerts by what became of them", ["result"], registry=registry)
        self._retrainings = Counter(f"{name}_retrainings", "Retrainings by exit code", ["code"], registry=registry)
        self._waiting = Gauge(f"{name}_waiting", "Alerts that wait or are acted on", registry=registry)
        self._waiting.set_function(self.inbox.waiting)

    def take(self, notification: Notification) -> int:
        """Keep the alerts to act on, and count them; a halt is done at once. OutputError if that cannot be written."""
        with self._arrived:
            taken = [self._taken(alert, over=notification.status == "resolved") for alert in notification.alerts]
            self._arrived.notify_all()
        for result in taken:
            self._alerts.labels(result).inc()
        return taken.count("accepted")

    def _taken(self, alert: Alert, *, over: bool) -> str:
        action = self.actions.get(alert.name)
        if action is None:
            return "not named"
        if over:
            self.inbox.forget(alert.name)
        if alert.status == "resolved":
            return "resolved"
        if not self.inbox.is_new(alert.name):
            return "repeated"
        if action == "halt":
            self._halt(alert.name)
        self.inbox.add(alert.name, done=action == "halt")
        return "accepted"

    def _halt(self, name: str) -> None:
        assert self.halt is not None  # noqa: S101 - what `receiver_of` makes sure of
        # The first reason stays: a person reads it.
        if not (self.halt.is_file() and self.halt.stat().st_size):
            write_text(self.halt, f"alert {name} at {self.inbox.clock():%Y-%m-%dT%H:%M:%SZ}\n")
        say([f"halted: alert {name}"])

    def work(self) -> None:
        """Act on what waits, and on what comes, until a signal stops the command."""
        while True:
            self.act()
            with self._arrived:
                self._arrived.wait(_TURN)

    def act(self) -> None:
        """Act on what waits, the oldest first."""
        stop_if_asked()
        while (waiting := self.inbox.first()) is not None:
            self._retrain(waiting)
            stop_if_asked()

    def _retrain(self, waiting: Path) -> None:
        name = waiting.read_text(encoding="utf-8").strip()
        say([f"retraining: alert {name}"])
        words = [*self.command, "--because", f"alert {name}"]
        with subprocess.Popen(words, env=self.environment) as process:  # noqa: S603 - the name is one of the settings
            try:
                code = _ended(process)
            except BaseException:  # the alert waits for the next start
                process.terminate()
                raise
        self._retrainings.labels(str(code)).inc()
        if code in (0, ALARM):
            self.inbox.finish(waiting)
        else:
            waiting.unlink()
            say([f"the retraining failed with exit code {code}; the next repetition of alert {name} tries again"])


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code, once it has ended; a signal to this command stops the wait."""
    while True:
        try:
            return process.wait(_TURN)
        except subprocess.TimeoutExpired:
            stop_if_asked()


@contextmanager
def listening(receiver: Receiver, host: str, port: int, token: str | None) -> Iterator[str]:
    """Answer webhooks in threads of their own until the block ends; yields the address."""

    handler = type("Handler", (_Handler,), {"receiver": receiver, "token": token})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise TrainingError(f"{host}:{port}: cannot listen ({error.strerror})") from None
    thread = threading.Thread(target=server.serve_forever, args=(_TURN,))
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """POST on any path is a webhook; GET has /livez and /metrics."""

    receiver: Receiver
    token: str | None
    timeout = _SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "credit-scoring", ""

    def do_POST(self) -> None:
        """Take a notification."""
        # A body that was not read would be taken for the next request.
        self.close_connection = True
        self._answer(*self._taken())

    def _taken(self) -> tuple[HTTPStatus, bytes]:
        length = self.headers.get("Content-Length", "")
        if not self._is_known():
            return HTTPStatus.UNAUTHORIZED, b""
        if not (length.isascii() and length.isdigit()):
            return HTTPStatus.LENGTH_REQUIRED, b""
        if len(length) > _LENGTH_DIGITS or int(length) > _BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b""
        try:
            notification = Notification.model_validate_json(self.rfile.read(int(length)), strict=True)
            accepted = self.receiver.take(notification)
        except ValidationError:
            return HTTPStatus.BAD_REQUEST, b""
        except OutputError as error:
            say([f"error: {error}"])
            return HTTPStatus.INTERNAL_SERVER_ERROR, b""
        return HTTPStatus.OK, json.dumps({"accepted": accepted}).encode()

    def do_GET(self) -> None:
        """Answer probes, and Prometheus."""
        if self.path == "/livez":
            self._answer(HTTPStatus.OK)
        elif not self._is_known():
            self._answer(HTTPStatus.UNAUTHORIZED)
        elif self.path == "/metrics":
            self._answer(HTTPStatus.OK, generate_latest(self.receiver.registry))
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _is_known(self) -> bool:
        given = self.headers.get("Authorization", "").encode()
        return self.token is None or hmac.compare_digest(given, f"Bearer {self.token}".encode())

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing: a request line is whatever somebody sends."""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be anybody's
        return False


def token_in(file: Path | None, host: str) -> str | None:
    """The token in a file; TrainingError without one for a host that others reach."""
    if file is None:
        if not _is_loopback(host):
            raise TrainingError(f"--host {host}: needs --token-file, since other machines reach it")
        return None
    try:
        token = read_regular(file, _TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeError):
        raise TrainingError(f"--token-file {file}: cannot be read") from None
    if not token:
        raise TrainingError(f"--token-file {file}: is empty")
    return token


def halt_file(actions: Mapping[str, str], environment: Mapping[str, str]) -> Path | None:
    """The file that halts the challengers; TrainingError if an action needs it and the environment names none."""
    named = environment.get(HALT_VARIABLE)
    if "halt" in actions.values() and not named:
        raise TrainingError(f"{HALT_VARIABLE}: must name the file that halts the challengers")
    return Path(named) if named else None


def receive(
    *,
    host: str,
    port: int,
    token_file: Path | None,
    inbox: Path | None,
    data: Path | None,
    allow_generated: bool,
    allow_uncompared: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Take notifications until a signal comes."""
    limits = TrainingSettings.load(settings, portfolio).retraining
    if not limits.on_alert:
        raise TrainingError(f"{settings}: retraining.on_alert: names no alert")
    if "retrain" in limits.on_alert.values() and not (data or limits.data):
        raise TrainingError("--data: name labelled applications, here or as retraining.data in the settings")
    command = [sys.executable, "-m", "training", "retrain", "--settings", str(settings)]
    for option, given in (("--data", data), ("--portfolio", portfolio)):
        command += [] if given is None else [option, str(given)]
    command += [*(["--allow-generated"] * allow_generated), *(["--allow-uncompared"] * allow_uncompared)]
    # An address may hold a password, which must not be in the list of processes.
    environment = {
        _ACTOR_VARIABLE: "training receive",
        **os.environ,
        **({"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {}),
    }
    place = inbox or Path(BentoMLContainer.bentoml_home.get()) / "receiver"
    with writing(place):
        kept = Inbox(place, timedelta(days=max(limits.cooldown_days, 1)))
    receiver = Receiver(limits.on_alert, kept, command, environment, halt_file(limits.on_alert, os.environ))
    with kept.held(), listening(receiver, host, port, token_in(token_file, host)) as address:
        say([f"listening on {address}: {', '.join(f'{name} {action}' for name, action in limits.on_alert.items())}"])
        receiver.work()
