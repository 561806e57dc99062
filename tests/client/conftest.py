from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from credit_scoring_client.client import AsyncClient, Client
from credit_scoring_client.retry import Clock

from tests.client.servers import ScriptedServer, scripted_server

# Made once: loading the certificates takes longer than most tests.
TLS = ssl.create_default_context()

START = datetime(2025, 11, 22, 13, 0, tzinfo=UTC)


@dataclass
class FakeTime:
    """Time that passes only while a client sleeps."""

    pauses: list[float] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(
            monotonic=lambda: 86_400.0 + sum(self.pauses), now=lambda: START + timedelta(seconds=sum(self.pauses))
        )

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.pauses.append(seconds)


Calls = Callable[[Any], Any]


def _blocking(time: FakeTime, url: str, *calls: Calls, **options: Any) -> Any:
    transport = httpx.HTTPTransport(verify=TLS)
    with Client(url, transport=transport, sleep=time.sleep, clock=time.clock, **options) as client:
        return [call(client) for call in calls][-1]


def _asyncio(time: FakeTime, url: str, *calls: Calls, **options: Any) -> Any:
    transport = httpx.AsyncHTTPTransport(verify=TLS)

    async def run() -> Any:
        async with AsyncClient(url, transport=transport, sleep=time.sleep_async, clock=time.clock, **options) as client:
            return [await call(client) for call in calls][-1]

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture(params=[_blocking, _asyncio], ids=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest, time: FakeTime) -> Callable[..., Any]:
    """Makes calls with one client of each kind in turn, and returns the last result."""

    def calls(url: str, *calls: Calls, **options: Any) -> Any:
        return request.param(time, url, *calls, **options)

    return calls


@pytest.fixture(scope="session")
def _server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def server(_server: ScriptedServer) -> Iterator[ScriptedServer]:
    _server.received.clear()
    yield _server
    assert _server.answers == [], "the client did not ask for every answer"
    _server.answers.clear()
