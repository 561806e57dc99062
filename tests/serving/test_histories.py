"""Histories in the service: from requests, from the feature store, and what happens without one."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from serving.engine import DecisionEngine
from serving.settings import WithoutHistory
from tests.features.histories import EXPECTED
from tests.redis_server import needs_redis, redis_server
from tests.scoring.history_models import NAMES, model
from tests.serving.histories import ARROW, INCOME, NOW, Services, fill, history
from tests.serving.tables import arrow
from tests.serving.test_engine import Service


def named(values: list[float | None]) -> dict[str, float | None]:
    return dict(zip(NAMES, values, strict=True))


@pytest.mark.parametrize("client", EXPECTED)
def test_the_rows_of_a_request_give_the_roll_ups_of_the_files(serve: Services, store: str, client: str) -> None:
    asked = serve(store)
    from_request, from_store = asked.predict(history=history(client)), asked.predict(client_id=client)
    assert (from_request.json()["history"], from_store.json()["history"]) == ("request", "store")
    assert from_request.json()["probability"] == from_store.json()["probability"]
    assert asked.roll_ups() == [named(EXPECTED[client])] * 2
    assert asked.recorded() == ["request", "store"]
    asked.service.traffic.tallies.publish()
    assert (asked.counted("request"), asked.counted("store"), asked.counted("missing")) == (1, 1, 0)


def test_a_history_in_the_request_goes_before_the_store(serve: Services, store: str) -> None:
    asked = serve(store)
    assert asked.predict(client_id="anna", history=history("ben")).json()["history"] == "request"
    assert asked.roll_ups() == [named(EXPECTED["ben"])]


def test_an_empty_history_is_known_and_has_no_rows(serve: Services) -> None:
    asked = serve()
    assert asked.predict(history={}).json()["history"] == "request"
    assert asked.roll_ups() == [named([0.0, 0.0, None, None])]


@pytest.mark.parametrize(
    ("parts", "days", "source"),
    [
        ({"client_id": "nobody"}, 0, "missing"),
        ({}, 0, "missing"),
        ({"client_id": "anna"}, 36, "stale"),
    ],
)
def test_without_a_history_it_is_scored_and_flagged(
    serve: Services, tmp_path: Path, parts: dict[str, str], days: int, source: str
) -> None:
    address = f"sqlite:///{tmp_path}/features.sqlite"
    fill(address, tmp_path, NOW - timedelta(days=days))
    asked = serve(address)
    answer = asked.predict(**parts)
    assert (answer.status_code, answer.json()["history"]) == (200, source)
    assert asked.recorded() == [source]
    assert asked.roll_ups() == [dict.fromkeys(NAMES)]


def test_a_store_that_is_down_is_told_and_not_asked_again_at_once(serve: Services, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/features.sqlite"
    asked = serve(address)
    for _ in range(3):
        assert asked.predict(client_id="anna").json()["history"] == "unavailable"
    fill(address, tmp_path, NOW)
    assert asked.predict(client_id="anna").json()["history"] == "unavailable"  # the clock stands still


def test_a_look_up_that_fails_now_and_then_keeps_nobody_from_the_store(serve: Services, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/features.sqlite"
    asked = serve(address)
    for _ in range(3):
        for _ in range(2):
            assert asked.predict(client_id="anna").json()["history"] == "unavailable"
        fill(address, tmp_path, NOW)
        assert asked.predict(client_id="anna").json()["history"] == "store"
        (tmp_path / "features.sqlite").unlink()


def test_what_may_not_be_decided_without_a_history_is_refused(serve: Services, store: str, tmp_path: Path) -> None:
    asked = serve(store, without=WithoutHistory.REFUSE)
    refused = asked.predict(client_id="nobody")
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"loc": ["history"], "msg": "No history of the client is known."}]
    assert asked.predict(client_id="anna").status_code == 200
    down = serve(f"sqlite:///{tmp_path}/nothing.sqlite", without=WithoutHistory.REFUSE).predict(client_id="anna")
    assert (down.status_code, down.headers["retry-after"]) == (503, "1")
    assert asked.recorded() == ["store"]


def test_a_batch_looks_its_clients_up(serve: Services, store: str) -> None:
    asked = serve(store)
    clients = ["anna", "nobody", "ben", None, "cleo"]
    items = [{"application": INCOME} | ({} if client is None else {"client_id": client}) for client in clients]
    results = asked.post("/predict/batch", {"applications": items}).json()["results"]
    assert [one["history"] for one in results] == ["store", "missing", "store", "missing", "store"]
    unknown = dict.fromkeys(NAMES)
    known = [named(EXPECTED[client]) if client in EXPECTED else unknown for client in clients]
    assert asked.roll_ups() == known


def test_in_a_batch_only_rows_without_a_history_are_refused(serve: Services, store: str) -> None:
    asked = serve(store, without=WithoutHistory.REFUSE)
    items = [{"application": INCOME, "client_id": client} for client in ("nobody", "anna")]
    first, second = asked.post("/predict/batch", {"applications": items}).json()["results"]
    assert (first["status"], first["errors"][0]["loc"]) == ("rejected", ["history"])
    assert second["history"] == "store"
    assert asked.roll_ups() == [named(EXPECTED["anna"])]


def test_a_table_may_state_its_roll_ups(serve: Services, store: str) -> None:
    asked = serve(store)
    table = pa.table({"client_id": ["anna", "anna"], "income": [2000.0, 2000.0], "open_debt": [5.0, None]})
    answer = asked.post("/predict/batch", arrow(table), ARROW)
    results = answer.json()["results"]
    assert [one["history"] for one in results] == ["request", "store"]
    assert asked.roll_ups() == [named([None, None, 5.0, None]), named(EXPECTED["anna"])]


@pytest.mark.parametrize(
    ("stated", "place"),
    [
        ({"loans": []}, ["history", "loans"]),
        ({"credits": [{"credit": 1, "days": 5}]}, ["history", "credits", 0, "days"]),
        ({"credits": [{"days": -5}]}, ["history", "credits", 0, "credit"]),
        ({"credits": [{"credit": 1, "days": -5, "client": "anna"}]}, ["history", "credits", 0, "client"]),
        ({"months": [{"month": -1, "late": 2}]}, ["history", "months", 0, "late"]),
        ([], ["history"]),
    ],
)
def test_a_history_that_does_not_fit_is_refused_by_its_place(serve: Services, stated: object, place: list[Any]) -> None:
    refused = serve().predict(history=stated)
    assert refused.status_code == 422
    assert place in [error["loc"] for error in refused.json()["errors"]]


def test_a_name_that_a_row_states_twice_is_refused(serve: Services) -> None:
    body = b'{"application": {"income": 1}, "history": {"credits": [{"credit": 1, "days": -5, "days": -6}]}}'
    refused = serve().post("/predict", body)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"loc": ["history", "credits", 0, "days"], "msg": "is stated more than once"}]


def test_an_explanation_has_the_history(serve: Services, store: str) -> None:
    asked = serve(store)
    told = asked.post("/explain", {"application": INCOME, "client_id": "anna"}).json()
    assert told["history"] == "store"
    assert asked.roll_ups() == [named(EXPECTED["anna"])]


@needs_redis
def test_a_redis_that_hangs_holds_no_request_up(serve: Services, tmp_path: Path) -> None:
    import os
    import signal

    with redis_server() as server:
        fill(server.address, tmp_path, NOW)
        asked = serve(server.address, milliseconds=200)
        assert asked.predict(client_id="anna").json()["history"] == "store"
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            before = time.monotonic()
            answer = asked.predict(client_id="anna")
            took = time.monotonic() - before
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
    assert (answer.status_code, answer.json()["history"]) == (200, "unavailable")
    assert took < 5


def test_a_model_of_the_application_alone_says_nothing_of_histories(tmp_path: Path) -> None:
    service = Service(model(), tmp_path, {})
    answer = asyncio.run(service.post("/predict", {"application": INCOME, "history": history("anna")}))
    service.close()
    assert "history" not in answer.json()


def test_the_engine_answers_directly_from_a_file_and_not_from_another_machine(serve: Services, store: str) -> None:
    def direct(engine: DecisionEngine) -> bool:
        return engine.routes["/predict"].direct is not None

    assert direct(serve(store).service.engine)
    assert not direct(serve("redis://127.0.0.1:1/0").service.engine)
