"""A service under load while something goes wrong, and the account of what became of every request."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from decision_log.notary import Vault
from decision_log.proofs import verify_log
from decision_log.segments import Listing, read_lines
from deploy.load import Load, Outcome, counted, request
from scoring.store import public_key
from tests.decision_log.logs import KeyPair
from tests.server import ROOT, Server, Tls, serve_with

KEY = "0123456789abcdef" * 4
THREADS, PER_SECOND = 8, 200.0
SETTLE_SECONDS = 2.0
"""Of load before something goes wrong, and after it is over."""
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Asked:
    """Requests for decisions, and the PD that the model has for each."""

    bodies: tuple[bytes, ...]
    probabilities: tuple[float, ...]


@dataclass
class Watch:
    """A fault under load. `strike` is to be called when it begins; the account is there when the load has ended."""

    load: Load
    at: float = 0.0
    account: dict[str, Any] = field(default_factory=dict)

    def strike(self) -> None:
        """From now on something is wrong."""
        time.sleep(SETTLE_SECONDS)
        self.at = time.monotonic()

    def answered_since(self, moment: float) -> bool:
        """Whether a request that was sent after the moment got its decision."""
        return any(one.answered and (one.sent or 0.0) > moment for one in self.load.outcomes)

    def failing(self) -> bool:
        """Whether the last of the requests did not get its decision."""
        return bool(self.load.outcomes) and not self.load.outcomes[-1].answered


@contextmanager
def recording_service(
    folder: Path,
    model: str,
    *,
    workers: int = 1,
    recording: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Iterator[Server]:
    """The service with a decision log in `folder`/log and checkpoints in `folder`/checkpoints.

    `recording` changes sections of those settings.

    `limits` changes those of the service, which has more time for a request than the project's settings give it.
    """
    settings = yaml.safe_load((ROOT / "configs" / "monitoring.yaml").read_text())
    for section, values in (recording or {}).items():
        settings["recording"][section] |= values
    (folder / "monitoring.yaml").write_text(yaml.safe_dump(settings))
    changes = {"model": model, "bentoml": {"workers": workers}, "limits": limits or {}}
    variables = {
        "CREDIT_SCORING_MONITORING": str(folder / "monitoring.yaml"),
        "DECISION_LOG_DIR": str(folder / "log"),
        "DECISION_LOG_KEY": KEY,
        **KeyPair(folder / "keys").environment(folder / "checkpoints"),
        **(environment or {}),
    }
    with serve_with(folder, changes, variables, tls) as running:
        yield running


@contextmanager
def under_load(
    server: Server,
    asked: Asked,
    log: Path,
    *,
    threads: int = THREADS,
    per_second: float = PER_SECOND,
    key: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Watch]:
    """Load on the service from before the block until after it, and its account in the end."""
    load = Load(address(server), "/predict", *asked.bodies, threads=threads, per_second=per_second, key=key, tls=tls)
    watch = Watch(load)
    with load:
        yield watch
        time.sleep(SETTLE_SECONDS)
    watch.account = account(load.outcomes, asked, log, watch.at)


def account(outcomes: Sequence[Outcome], asked: Asked, log: Path, at: float) -> dict[str, Any]:
    """What became of the requests; `recovered_after` are the seconds from `at`, when it began, to the last failure."""
    decided = [one for one in outcomes if one.decision is not None]
    failed = [one.ended for one in outcomes if not one.answered]
    return {
        "requests": counted(outcomes),
        "wrong": sum(one.decision["probability"] != asked.probabilities[one.body] for one in decided if one.decision),
        "not_in_the_log": len({one.decision["request_id"] for one in decided if one.decision} - logged(log)),
        "recovered_after": round(max(failed) - at, 2) if failed else 0.0,
    }


def logged(log: Path) -> set[str]:
    """The requests in the decision log."""
    return {str(line["request_id"]) for path in Listing.of(log).open for line in read_lines(path)}


def assert_proven(folder: Path) -> None:
    """What the service in `folder` has recorded is what it signed, as far as checkpoints go."""
    key = [public_key(KeyPair(folder / "keys").public)]
    seen = verify_log(folder / "log", Vault(str(folder / "checkpoints")), key)
    assert seen.findings == []
    assert seen.covered > 0


def assert_right(server: Server, asked: Asked, *, tls: ssl.SSLContext | None = None) -> None:
    """One request gets the decision of the model."""
    decision = request(address(server), "/predict", asked.bodies[0], tls=tls).decision
    assert decision
    assert decision["probability"] == asked.probabilities[0]


def address(server: Server) -> tuple[str, int]:
    """Host and port."""
    parts = urlsplit(server.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def eventually(condition: Callable[[], bool]) -> float:
    """Wait until it is true: how many seconds that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < WAIT_SECONDS
        time.sleep(0.05)
    return time.monotonic() - start


def encoded(application: Mapping[str, Any]) -> bytes:
    """A request for a decision on an application."""
    return json.dumps({"application": application}).encode()
