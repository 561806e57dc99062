"""Requests with an Idempotency-Key to a service with two workers and a decision log: decided once, whatever ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from credit_scoring_client.client import Client

from decision_log.answers import FILE
from decision_log.segments import Listing, read_lines
from scoring.keys import Scope
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import Server, serve_with
from tests.workers import workers
from training.run import Delivered

BATCH = {"applications": [EXAMPLE] * 1_000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idempotency")


@pytest.fixture(scope="module")
def keys(folder: Path) -> Keys:
    made = Keys(folder / "keys.yaml")
    for name in ("shop", "bank"):
        made.create(name, Scope.PREDICT, requests_per_second=1e6)
    made.create("watch", Scope.ADMIN)
    return made


@contextmanager
def served(delivered: Delivered, folder: Path, keys: Keys, **limits: float) -> Iterator[Server]:
    log = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": "0123456789abcdef" * 4}
    changes = {"model": delivered.tag, "bentoml": {"workers": 2}, "limits": limits}
    with serve_with(folder, changes, keys.environment | log) as running:
        yield running


def post(server: Server, secret: str, key: str, path: str = "/predict", body: object = EXAMPLE) -> httpx.Response:
    headers = {"X-API-Key": secret, "Idempotency-Key": key}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=600)


def recorded(folder: Path, request_id: str) -> int:
    lines = (line for path in Listing.of(folder / "log").open for line in read_lines(path))
    return sum(line["request_id"] == request_id for line in lines)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_flight(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "log" / FILE)) as connection:
        return bool(connection.execute("SELECT count(*) FROM answers WHERE answer IS NULL").fetchone()[0])


def test_repetitions_to_any_worker_are_one_decision_even_after_a_restart(
    delivered: Delivered, folder: Path, keys: Keys
) -> None:
    shop, bank = keys.secrets["shop"], keys.secrets["bank"]
    small = {"applications": [EXAMPLE, {"application": {"AMT_CREDIT": -1}}]}
    with served(delivered, folder, keys) as server:
        first = post(server, shop, "k-1")
        batch = post(server, shop, "k-2", "/predict/batch", small)
        with ThreadPoolExecutor(8) as callers:
            again = list(callers.map(lambda _: post(server, shop, '"k-1"'), range(40)))
        assert post(server, shop, "k-1", body={**EXAMPLE, "client_id": "another"}).status_code == 422
        assert post(server, shop, "k-1", "/predict/batch", small).status_code == 422
        other = post(server, bank, "k-1")
        metrics = httpx.get(f"{server.url}/metrics", headers={"X-API-Key": keys.secrets["watch"]}, timeout=600).text
        assert 'credit_scoring_repeated_requests_total{outcome="mismatch"}' in metrics
    assert [answer.status_code for answer in (first, batch, other)] == [200] * 3
    assert first.json()["request_id"] != other.json()["request_id"]
    assert {answer.content for answer in again} == {first.content}
    assert {answer.headers["idempotency-replayed"] for answer in again} == {"true"}
    with served(delivered, folder, keys) as server:
        for given, path, body in ((first, "/predict", EXAMPLE), (batch, "/predict/batch", small)):
            repeated = post(server, shop, "k-1" if given is first else "k-2", path, body)
            assert (repeated.content, repeated.headers["idempotency-replayed"]) == (given.content, "true")
    assert [recorded(folder, answer.headers["x-request-id"]) for answer in (first, batch, other)] == [1, 1, 1]
    assert [recorded(folder, answer.headers["x-request-id"]) for answer in again] == [0] * 40
    assert stat.S_IMODE((folder / "log" / FILE).stat().st_mode) == 0o600


def test_a_worker_that_is_killed_in_flight_holds_the_key_for_its_lease_only(
    delivered: Delivered, folder: Path, keys: Keys
) -> None:
    shop = keys.secrets["shop"]
    with served(delivered, folder, keys, timeout_seconds=8) as server:
        with ThreadPoolExecutor(1) as caller:
            lost = caller.submit(post, server, shop, "k-3", "/predict/batch", BATCH)
            eventually(lambda: in_flight(folder))
            for worker in workers(server):
                os.kill(worker, signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                lost.result()
        statuses = []

        def answered() -> bool:
            try:
                answer = post(server, shop, "k-3", "/predict/batch", BATCH)
            except httpx.TransportError:  # the new workers are not up yet
                return False
            statuses.append((answer.status_code, answer.headers.get("retry-after")))
            return answer.status_code == 200

        eventually(answered)
        assert set(statuses[:-1]) <= {(409, "1")}
        assert "idempotency-replayed" in post(server, shop, "k-3", "/predict/batch", BATCH).headers


def test_the_client_sends_a_key_that_the_service_honours(delivered: Delivered, folder: Path, keys: Keys) -> None:
    with served(delivered, folder, keys) as server, Client(server.url, api_key=keys.secrets["shop"]) as client:
        decision = client.predict(EXAMPLE["application"])
    assert recorded(folder, decision.request_id) == 1
    with closing(sqlite3.connect(folder / "log" / FILE)) as connection:
        answers = [row[0] for row in connection.execute("SELECT answer FROM answers")]
    assert sum(decision.request_id.encode() in answer for answer in answers if answer) == 1
