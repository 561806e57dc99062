"""A person overrides decisions of a service with two workers: who may, what is refused, and what a restart leaves."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from credit_scoring_client.client import Client
from credit_scoring_client.errors import ResponseError

from decision_log.closing import close
from decision_log.overrides import OverrideReader
from decision_log.segments import Listing
from scoring.keys import Scope
from tests.e2e.test_idempotency import eventually
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.monitoring.recording import settings
from tests.server import Server, serve_with
from tests.workers import workers
from training.run import Delivered

REASON = "S3CR3T-REASON: income was verified"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overrides")


@pytest.fixture(scope="module")
def keys(folder: Path) -> Keys:
    made = Keys(folder / "keys.yaml")
    made.create("shop", Scope.PREDICT, requests_per_second=1e6)
    made.create("anna", Scope.OVERRIDE, requests_per_second=1e6)
    made.create("watch", Scope.ADMIN)
    return made


@contextmanager
def served(delivered: Delivered, folder: Path, keys: Keys) -> Iterator[Server]:
    log = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": "0123456789abcdef" * 4}
    changes = {"model": delivered.tag, "bentoml": {"workers": 2}}
    with serve_with(folder, changes, keys.environment | log) as running:
        yield running


@pytest.fixture(scope="module")
def server(delivered: Delivered, folder: Path, keys: Keys) -> Iterator[Server]:
    with served(delivered, folder, keys) as running:
        yield running


def post(
    server: Server, path: str, body: object, secret: str, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers={"X-API-Key": secret, **(headers or {})}, timeout=600)


def decide(server: Server, keys: Keys, body: object = EXAMPLE, path: str = "/predict") -> Any:
    return post(server, path, body, keys.secrets["shop"]).json()


def override(server: Server, keys: Keys, request_id: str, decision: str, index: int | None = None) -> httpx.Response:
    body = {"decision": decision, "reason": REASON} | ({} if index is None else {"index": index})
    return post(server, f"/decisions/{request_id}/override", body, keys.secrets["anna"])


def opposite(decision: str) -> str:
    return "approve" if decision == "decline" else "decline"


def refused(answer: httpx.Response) -> tuple[int, str]:
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["request_id"]) == (answer.status_code, answer.headers["x-request-id"])
    return answer.status_code, problem["detail"]


def test_an_override_is_answered_as_it_was_recorded(server: Server, keys: Keys, folder: Path) -> None:
    decided = decide(server, keys)
    wanted = opposite(decided["decision"])
    before = datetime.now(UTC)
    answer = override(server, keys, decided["request_id"], wanted)
    told = answer.json()
    assert answer.status_code == 200
    assert before <= datetime.fromisoformat(told.pop("timestamp")) <= datetime.now(UTC)
    assert told == {
        "request_id": decided["request_id"], "index": 0, "actor": "anna", "was": decided["decision"],
        "decision": wanted, "reason": REASON,
    }  # fmt: skip
    reader = OverrideReader(folder / "log")
    reader.look()
    assert reader.standing[decided["request_id"], 0].reason == REASON


def test_only_the_scope_override_may(server: Server, keys: Keys) -> None:
    decided = decide(server, keys)
    path, body = f"/decisions/{decided['request_id']}/override", {"decision": "decline", "reason": "x"}
    assert refused(post(server, path, body, keys.secrets["shop"])) == (403, "The API key lacks the scope override.")
    assert refused(post(server, path, body, keys.secrets["watch"])) == (403, "The API key lacks the scope override.")
    assert refused(post(server, path, body, "nobody"))[0] == 401
    assert refused(post(server, "/predict", EXAMPLE, keys.secrets["anna"]))[0] == 403


def test_what_is_not_recorded_is_404_and_what_stands_409(server: Server, keys: Keys) -> None:
    decided = decide(server, keys)
    request_id, wanted = decided["request_id"], opposite(decided["decision"])
    assert refused(override(server, keys, "nobody-s", "approve")) == (404, "No such decision is recorded.")
    assert refused(override(server, keys, request_id, wanted, index=1)) == (404, "No such decision is recorded.")
    assert override(server, keys, request_id, wanted).status_code == 200
    conflict = override(server, keys, request_id, wanted)
    assert refused(conflict) == (409, f"The decision is {wanted} already.")
    assert "retry-after" not in conflict.headers


def test_an_application_of_a_batch_is_overridden_by_its_index(server: Server, keys: Keys) -> None:
    batch = {"applications": [EXAMPLE, {"application": {"AMT_CREDIT": -1}}, EXAMPLE]}
    answer = post(server, "/predict/batch", batch, keys.secrets["shop"])
    request_id, decision = answer.headers["x-request-id"], answer.json()["results"][2]["decision"]
    told = override(server, keys, request_id, opposite(decision), index=2)
    assert (told.status_code, told.json()["index"], told.json()["was"]) == (200, 2, decision)
    assert refused(override(server, keys, request_id, "approve", index=1))[0] == 404


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"reason": "x"}, "decision"),
        ({"decision": "approve"}, "reason"),
        ({"decision": "refer", "reason": "x"}, "decision"),
        ({"decision": "approve", "reason": ""}, "reason"),
        ({"decision": "approve", "reason": "   "}, "reason"),
        ({"decision": "approve", "reason": "two\nlines"}, "reason"),
        ({"decision": "approve", "reason": "x" * 501}, "reason"),
        ({"decision": "approve", "reason": 5}, "reason"),
        ({"decision": "approve", "reason": "x", "index": -1}, "index"),
        ({"decision": "approve", "reason": "x", "index": "0"}, "index"),
        ({"decision": "approve", "reason": "x", "index": 1 << 31}, "index"),
        ({"decision": "approve", "reason": "x", "actor": "bob"}, "actor"),
    ],
)
def test_a_body_that_does_not_fit_is_422(server: Server, keys: Keys, body: object, place: str) -> None:
    answer = post(server, "/decisions/r-1/override", body, keys.secrets["anna"])
    assert refused(answer)[0] == 422
    assert [error["loc"] for error in answer.json()["errors"]] == [[place]]


def test_a_name_that_is_stated_twice_is_422(server: Server, keys: Keys) -> None:
    answer = httpx.post(
        f"{server.url}/decisions/r-1/override",
        content=b'{"decision": "approve", "reason": "x", "decision": "decline"}',
        headers={"X-API-Key": keys.secrets["anna"], "Content-Type": "application/json"},
        timeout=600,
    )
    assert answer.json()["errors"] == [{"loc": ["decision"], "msg": "is stated more than once"}]


def test_the_route_answers_post_only(server: Server, keys: Keys) -> None:
    answer = httpx.get(f"{server.url}/decisions/r-1/override", headers={"X-API-Key": keys.secrets["anna"]}, timeout=600)
    assert (*refused(answer), answer.headers["allow"]) == (405, "The route does not answer this method.", "POST")


def test_a_repetition_with_its_key_is_one_override(server: Server, keys: Keys, folder: Path) -> None:
    decided = decide(server, keys)
    path = f"/decisions/{decided['request_id']}/override"
    body = {"decision": opposite(decided["decision"]), "reason": REASON}
    key = {"Idempotency-Key": "override-1"}
    first, again = (post(server, path, body, keys.secrets["anna"], key) for _ in range(2))
    assert (first.status_code, again.content, again.headers["idempotency-replayed"]) == (200, first.content, "true")
    reader = OverrideReader(folder / "log")
    reader.look()
    assert sum(record.request_id == decided["request_id"] for record in reader.records) == 1


def test_of_many_persons_at_once_one_overrides(server: Server, keys: Keys) -> None:
    decided = decide(server, keys)
    wanted = opposite(decided["decision"])
    with ThreadPoolExecutor(8) as persons:
        answers = list(persons.map(lambda _: override(server, keys, decided["request_id"], wanted), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 15]


def test_overrides_are_counted_by_direction_and_no_reason_is_told(server: Server, keys: Keys) -> None:
    watch = {"X-API-Key": keys.secrets["watch"]}
    metrics = httpx.get(f"{server.url}/metrics", headers=watch, timeout=600).text
    counted = re.findall(r"^credit_scoring_overrides_total\{(.*)\} (\S+)$", metrics, re.MULTILINE)
    assert {labels for labels, _ in counted} == {
        'decision="decline",was="approve"', 'decision="approve",was="refer"', 'decision="decline",was="refer"',
        'decision="approve",was="decline"',
    }  # fmt: skip
    assert sum(float(count) for _, count in counted) >= 5
    assert 'endpoint="/decisions/{request_id}/override"' in metrics
    assert "S3CR3T" not in metrics + server.logged


def test_the_client_overrides(server: Server, keys: Keys) -> None:
    decided = decide(server, keys)
    wanted = opposite(decided["decision"])
    with Client(server.url, api_key=keys.secrets["anna"]) as client:
        told = client.override(decided["request_id"], wanted, REASON)
        assert (told.actor, told.was, told.decision, told.index) == ("anna", decided["decision"], wanted, 0)
        with pytest.raises(ResponseError) as stands:
            client.override(decided["request_id"], wanted, REASON, index=0)
        with pytest.raises(ResponseError) as unknown:
            client.override("nobody-s", wanted, REASON)
    assert (stands.value.status, unknown.value.status) == (409, 404)


def test_a_service_that_never_overrides_opens_no_file_for_it(delivered: Delivered, keys: Keys, tmp_path: Path) -> None:
    with served(delivered, tmp_path, keys) as server:
        decide(server, keys)
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["closed", "open"]


def test_a_restart_and_closing_leave_decisions_and_overrides_found(
    delivered: Delivered, keys: Keys, tmp_path: Path
) -> None:
    with served(delivered, tmp_path, keys) as server:
        first, second = decide(server, keys), decide(server, keys)
        wanted = opposite(first["decision"])
        assert override(server, keys, first["request_id"], wanted).status_code == 200
    close(tmp_path / "log", settings().recording.log, datetime.now(UTC) + timedelta(hours=1))
    assert Listing.of(tmp_path / "log").open == ()
    with served(delivered, tmp_path, keys) as server:
        assert refused(override(server, keys, first["request_id"], wanted))[0] == 409
        assert override(server, keys, second["request_id"], wanted).json()["was"] == second["decision"]
        assert refused(override(server, keys, "nobody-s", wanted))[0] == 404


def test_an_answered_override_survives_a_kill_of_its_worker(delivered: Delivered, keys: Keys, tmp_path: Path) -> None:
    with served(delivered, tmp_path, keys) as server:
        decided = [decide(server, keys) for _ in range(8)]
        wanted = opposite(decided[0]["decision"])
        for one in decided:
            assert override(server, keys, one["request_id"], wanted).status_code == 200
        assert workers(server)
        for worker in workers(server):
            os.kill(worker, signal.SIGKILL)

        def stands(one: dict[str, Any]) -> bool:
            try:
                return override(server, keys, one["request_id"], wanted).status_code == 409
            except httpx.TransportError:  # the new workers are not up yet
                return False

        for one in decided:
            eventually(partial(stands, one))
    reader = OverrideReader(tmp_path / "log")
    reader.look()
    assert {record.request_id for record in reader.records} == {one["request_id"] for one in decided}
    assert len(reader.records) == len(decided)


def test_without_a_decision_log_nothing_is_overridden(server_without_log: Server) -> None:
    answer = httpx.post(
        f"{server_without_log.url}/decisions/r-1/override", json={"decision": "approve", "reason": "x"}, timeout=600
    )
    assert refused(answer) == (501, "An override needs a decision log, and this service keeps none.")


@pytest.fixture
def server_without_log(delivered: Delivered, tmp_path: Path) -> Iterator[Server]:
    with serve_with(tmp_path, {"model": delivered.tag}) as running:
        yield running
