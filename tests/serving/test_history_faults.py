"""Redis is killed, started again, stopped and full while requests run: what they are answered, and how it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from features.errors import StoreDownError
from serving.histories import ClientHistories
from serving.request_metrics import Traffic
from serving.schemas import Requests
from serving.settings import HistorySettings, WithoutHistory
from tests.features.histories import EXPECTED, LENDER
from tests.redis_server import RedisServer, needs_redis, redis_server
from tests.scoring.history_models import model
from tests.serving.histories import INCOME, JSON, fill
from tests.serving.test_engine import SERVING, Service

pytestmark = needs_redis

CALLERS = 32
CLIENTS = [*EXPECTED]
LONGEST_SECONDS = 10
"""Of a request, on a machine that others use; the store has 200 ms to answer."""
LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Told:
    """An answer: its status, where the history came from, the probability, and what it took."""

    client: str
    status: int
    source: str | None
    probability: float | None
    seconds: float


@dataclass
class Load:
    """Callers who ask again as soon as they are answered."""

    service: Service
    told: list[Told] = field(default_factory=list)

    async def ask(self, client: str) -> Told:
        body = json.dumps({"application": INCOME, "client_id": client}).encode()
        before = time.monotonic()
        answer = await self.service.send("/predict", body, {"Content-Type": JSON, "Accept": JSON})
        said = answer.json()
        taken = time.monotonic() - before
        return Told(client, answer.status_code, said.get("history"), said.get("probability"), taken)

    async def until(self, enough: Callable[[Sequence[Told]], bool]) -> Sequence[Told]:
        """The answers from now on, once they are enough; at least one of each caller."""
        first, deadline = len(self.told), time.monotonic() + LIMIT_SECONDS
        while len(found := self.told[first:]) < CALLERS or not enough(found):
            assert time.monotonic() < deadline, {(one.status, one.source) for one in found}
            await asyncio.sleep(0.01)
        return found

    async def _call(self, place: int) -> None:
        while True:
            self.told.append(await self.ask(CLIENTS[place % len(CLIENTS)]))
            # A refusal waits for nothing: the other callers would never have their turn.
            await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        callers = [asyncio.create_task(self._call(place)) for place in range(CALLERS)]
        try:
            yield
        finally:
            for one in callers:
                one.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


class Clock:
    """The time, which can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def serving(address: str, folder: Path, without: WithoutHistory, clock: Clock, milliseconds: float = 200) -> Service:
    requests, traffic = Requests(LENDER), Traffic([0.1], registry=CollectorRegistry())
    settings = HistorySettings(ttl_days=35, milliseconds=milliseconds, without=without)
    assert requests.histories is not None
    histories = ClientHistories(LENDER, requests.histories, settings, address, traffic, retry_after=1, clock=clock)
    return Service(model(), folder / "service", {}, SERVING, histories=histories, traffic=traffic)


def all_from_store(answers: Sequence[Told]) -> bool:
    return all(one.source == "store" for one in answers[-CALLERS:])


def some_without(answers: Sequence[Told]) -> bool:
    """Whether every caller has felt the fault."""
    return all(one.source != "store" for one in answers[-CALLERS:])


async def killed(server: RedisServer, load: Load, folder: Path) -> None:
    """Killed, started again at the same place without its data, and filled."""
    server.stop()
    await load.until(some_without)
    with redis_server(port=server.port) as again:
        await load.until(lambda answers: answers[-1].source == "missing" or answers[-1].status == 422)
        await asyncio.to_thread(fill, again.address, folder, datetime.now(UTC))
        await load.until(all_from_store)


async def stopped(server: RedisServer, load: Load, folder: Path) -> None:
    """Stopped, so that it takes connections and never answers."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        await load.until(some_without)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    await load.until(all_from_store)


async def full(server: RedisServer, load: Load, folder: Path) -> None:
    """Full, so that nothing can be written; what it has is read all the same."""
    with Redis.from_url(server.address) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreDownError, match="OutOfMemoryError"):
            await asyncio.to_thread(fill, server.address, folder, datetime.now(UTC))
    assert all(one.source == "store" for one in await load.until(all_from_store))


@pytest.mark.parametrize("without", [WithoutHistory.SCORE, WithoutHistory.REFUSE])
@pytest.mark.parametrize("fault", [killed, stopped, full])
def test_under_load_every_request_is_answered_as_the_policy_says(
    server: RedisServer, tmp_path: Path, fault: Callable[..., object], without: WithoutHistory
) -> None:
    fill(server.address, tmp_path, datetime.now(UTC))
    service = serving(server.address, tmp_path, without, Clock())
    load = Load(service)

    async def run() -> dict[str, float | None]:
        expected = {client: (await load.ask(client)).probability for client in CLIENTS}
        async with load.running():
            await load.until(all_from_store)
            await fault(server, load, tmp_path)  # type: ignore[misc]
        return expected

    expected = asyncio.run(run())
    service.close()
    refused = {(503, None), (422, None)} if fault is killed else {(503, None)}
    scored = {(200, "unavailable"), (200, "missing")} if fault is killed else {(200, "unavailable")}
    others = set() if fault is full else refused if without is WithoutHistory.REFUSE else scored
    assert {(one.status, one.source) for one in load.told} == {(200, "store")} | others
    assert max(one.seconds for one in load.told) < LONGEST_SECONDS
    for client in CLIENTS:
        with_history = {one.probability for one in load.told if one.client == client and one.source == "store"}
        assert with_history == {expected[client]}
    assert len({one.probability for one in load.told if one.source in ("unavailable", "missing")}) <= 1


def test_when_it_may_be_asked_again_one_caller_asks_and_the_others_do_not_wait(
    server: RedisServer, tmp_path: Path
) -> None:
    fill(server.address, tmp_path, datetime.now(UTC))
    clock = Clock()
    service = serving(server.address, tmp_path, WithoutHistory.SCORE, clock, milliseconds=2000)
    load = Load(service)

    async def run() -> list[Told]:
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            # A request is answered in time, and the look-up itself may fail a moment later: three in a row are needed.
            at_once = 0
            while at_once < 3:
                at_once = 0 if (await load.ask("anna")).seconds > 1.9 else at_once + 1
            clock.ahead += 10
            return await asyncio.gather(*(load.ask("anna") for _ in range(CALLERS)))
        finally:
            os.kill(server.process.pid, signal.SIGCONT)

    told = asyncio.run(run())
    service.close()
    assert [one.source for one in told] == ["unavailable"] * CALLERS
    assert sum(one.seconds > 1.9 for one in told) == 1


def test_a_batch_asks_once(server: RedisServer, tmp_path: Path) -> None:
    fill(server.address, tmp_path, datetime.now(UTC))
    service = serving(server.address, tmp_path, WithoutHistory.SCORE, Clock())
    clients = ["anna", "nobody", "ben", None, "cleo"]
    items = [{"application": INCOME} | ({} if client is None else {"client_id": client}) for client in clients]
    body = json.dumps({"applications": items}).encode()
    answer = asyncio.run(service.send("/predict/batch", body, {"Content-Type": JSON, "Accept": JSON}))
    service.close()
    assert [one["history"] for one in answer.json()["results"]] == ["store", "missing", "store", "missing", "store"]
    with Redis.from_url(server.address) as client:
        assert client.info("commandstats")["cmdstat_hmget"]["calls"] == 1
