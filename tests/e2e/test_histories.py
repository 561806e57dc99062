"""A service with two workers and a feature store: what it answers, records and counts while the store is replaced."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from decision_log.reader import DecisionLogReader
from features.materialize import RolledUp, materialize, roll_up_clients
from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.store import StoredModel
from tests.decision_log.models import kept
from tests.e2e.test_idempotency import eventually
from tests.features.histories import EXPECTED, FOLDER, LENDER, write_histories
from tests.portfolios.test_portfolio import artefact_of
from tests.redis_server import RedisServer, needs_redis, redis_server
from tests.server import ROOT, Server, serve_with
from tests.serving.histories import INCOME, history

NAME = "service_with_histories"
KEY = "0123456789abcdef" * 4
PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def model() -> Iterator[StoredModel]:
    artefact: Artefact = artefact_of(FOLDER)
    with kept(NAME, artefact, version="1") as stored:
        yield stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("histories")


@pytest.fixture(scope="module")
def rolled_up(folder: Path) -> RolledUp:
    return roll_up_clients(write_histories(folder / "data"), LENDER, datetime.now(UTC), Progress(quiet=True))


@pytest.fixture(scope="module")
def server(model: StoredModel, folder: Path, rolled_up: RolledUp) -> Iterator[Server]:
    address = f"sqlite:///{folder}/features.sqlite"
    materialize(address, LENDER, rolled_up, datetime.now(UTC))
    environment = {"FEATURE_STORE": address, "DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": KEY}
    with serve_with(folder, {"model": NAME, "bentoml": {"workers": 2}}, environment) as running:
        yield running


def predict(server: Server, **parts: object) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", json={"application": INCOME, **parts}, timeout=600)


def test_request_and_store_give_the_same_decision(server: Server) -> None:
    for client in EXPECTED:
        from_request, from_store = predict(server, history=history(client)), predict(server, client_id=client)
        assert (from_request.json()["history"], from_store.json()["history"]) == ("request", "store")
        assert from_request.json()["probability"] == from_store.json()["probability"]


def test_no_request_fails_while_the_store_is_replaced_goes_and_comes_back(
    server: Server, folder: Path, rolled_up: RolledUp
) -> None:
    address, store = f"sqlite:///{folder}/features.sqlite", folder / "features.sqlite"
    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(predict, server, client_id="anna") for _ in range(400)]
        for _ in range(5):
            materialize(address, LENDER, rolled_up, datetime.now(UTC))
        shutil.move(store, folder / "aside")
        while sum(one.done() for one in asked) < 300:
            pass
        shutil.move(folder / "aside", store)
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["history"] for answer in answers} <= {"store", "unavailable"}


def test_what_is_old_is_not_used_and_everything_is_counted(server: Server, folder: Path, rolled_up: RolledUp) -> None:
    materialize(f"sqlite:///{folder}/features.sqlite", LENDER, rolled_up, datetime.now(UTC) - timedelta(days=36))
    while predict(server, client_id="ben").json()["history"] == "unavailable":  # for a second, after the test before
        pass
    assert predict(server, client_id="ben").json()["history"] == "stale"
    assert predict(server, client_id="nobody").json()["history"] == "missing"
    recorded = Counter(
        source
        for table in DecisionLogReader(folder / "log").tables(["history"])
        for source in table["history"].to_pylist()
    )
    eventually(lambda: counted(server) == recorded)
    eventually(lambda: kept_for_drift(server) == (recorded.total(), recorded["unavailable"]))


def counted(server: Server) -> dict[str, int]:
    """How many applications there were by source, over both workers."""
    metrics = httpx.get(f"{server.url}/metrics").text
    found = re.findall(r'^credit_scoring_histories_total{source="(\w+)"} (\S+)$', metrics, re.MULTILINE)
    return {source: int(float(count)) for source, count in found if float(count)}


def kept_for_drift(server: Server) -> tuple[int, int]:
    """How many applications the drift counts hold, and whose history of them was not available, over both workers."""
    found = httpx.get(f"{server.url}/drift").json()
    assert sum(found["probability"]) == sum(found["features"]["open_debt"]) == found["rows"] - found["unavailable"]
    return found["rows"], found["unavailable"]


def test_an_empty_variable_means_that_there_is_no_store(model: StoredModel, tmp_path: Path) -> None:
    with serve_with(tmp_path, {"model": NAME}, {"FEATURE_STORE": ""}) as server:
        assert predict(server, client_id="anna").json()["history"] == "missing"


def test_an_address_that_is_none_stops_the_start(model: StoredModel, tmp_path: Path) -> None:
    (tmp_path / "address").write_text(f"mysql://:{PASSWORD}@host/db")
    wrong = {"FEATURE_STORE_FILE": str(tmp_path / "address")}
    said = f"FEATURE_STORE_FILE: the content of {tmp_path}/address is no feature store"
    with pytest.raises(RuntimeError, match=said), serve_with(tmp_path, {"model": NAME}, wrong):
        pass
    assert PASSWORD not in (tmp_path / "output").read_text()


@needs_redis
def test_a_redis_that_hangs_or_is_killed_costs_the_history_and_no_answer(
    model: StoredModel, rolled_up: RolledUp, tmp_path: Path
) -> None:
    """The service has its address, with a password, from a file, and shows it nowhere."""
    with redis_server() as redis:
        address = guarded(redis)
        materialize(address, LENDER, rolled_up, datetime.now(UTC))
        (tmp_path / "address").write_text(f"{address}\n")
        relative = os.path.relpath(tmp_path / "address", ROOT)
        with serve_with(tmp_path, {"model": NAME}, {"FEATURE_STORE_FILE": relative}) as server:
            eventually(lambda: sources(server) == {"store"})
            redis.process.send_signal(signal.SIGSTOP)
            assert sources(server) == {"unavailable"}
            redis.process.send_signal(signal.SIGCONT)
            eventually(lambda: sources(server) == {"store"})
            redis.stop()
            assert sources(server) == {"unavailable"}
            with redis_server(port=redis.port) as empty:
                guarded(empty)
                eventually(lambda: sources(server) == {"missing"})
                materialize(address, LENDER, rolled_up, datetime.now(UTC))
                eventually(lambda: sources(server) == {"store"})
            assert str(redis.port) not in server.logged
            environments = [process.environ() for process in psutil.Process(server.pid).children(recursive=True)]
            # Workers of a Bento run in another folder.
            assert {one["FEATURE_STORE_FILE"] for one in environments} >= {str(ROOT / relative)}
            assert not [one for one in environments if PASSWORD in "".join(one.values())]


def guarded(redis: RedisServer) -> str:
    """The address of the server, once it asks for a password."""
    from redis import Redis

    with Redis.from_url(redis.address) as client:
        client.config_set("requirepass", PASSWORD)
    return redis.address.replace("redis://", f"redis://:{PASSWORD}@")


def sources(server: Server) -> set[str]:
    """Where the history came from in each of some requests at once; all must be decided on."""
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: predict(server, client_id="anna"), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    return {answer.json()["history"] for answer in answers}
