"""What the service does at its limits, against a real one whose limits are low."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from scoring.keys import Scope
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import Server, serve_with
from training.run import Delivered

IN_FLIGHT = 4
CALLERS = 16


@pytest.fixture(scope="module")
def server(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"in_flight": IN_FLIGHT, "timeout_seconds": 3, "retry_after_seconds": 7}
    with serve_with(tmp_path_factory.mktemp("limits"), {"model": delivered.tag, "limits": limits}) as running:
        yield running


class Answered(NamedTuple):
    """What a caller got."""

    status: int
    headers: Message
    body: bytes


def at_once(server: Server, path: str, body: bytes, keys: Sequence[str] = [""] * CALLERS) -> list[Answered]:
    """Answers to requests of several connections, each with its key, that the service finds waiting when it looks."""
    with ExitStack() as stack:
        callers = [stack.enter_context(closing(caller(server))) for _ in keys]
        workers = psutil.Process(server.pid).children(recursive=True)
        for process in workers:
            process.suspend()
        try:
            for one, key in zip(callers, keys, strict=True):
                one.request(
                    "POST", path, body, {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
                )
        finally:
            for process in workers:
                process.resume()
        return [answered(one) for one in callers]


def answered(connection: HTTPConnection) -> Answered:
    response = connection.getresponse()
    return Answered(response.status, response.headers, response.read())


def caller(server: Server) -> HTTPConnection:
    """A connection that the service has taken."""
    connection = HTTPConnection(str(urlsplit(server.url).netloc), timeout=60)
    connection.request("GET", "/livez")
    connection.getresponse().read()
    return connection


def shed(server: Server) -> int:
    metrics = httpx.get(f"{server.url}/metrics").text
    found = re.search(r'^credit_scoring_requests_shed_total\{endpoint="/predict"\} (\d+)', metrics, re.MULTILINE)
    return int(found[1]) if found else 0


def test_beyond_its_limit_the_service_refuses_with_a_time_to_retry_and_answers_the_rest(server: Server) -> None:
    before = shed(server)
    answers = at_once(server, "/predict", json.dumps(EXAMPLE).encode())
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses[503] == shed(server) - before
    assert {answer.headers.get("Retry-After") for answer in answers if answer.status == 503} == {"7"}
    assert len({json.loads(answer.body)["probability"] for answer in answers if answer.status == 200}) == 1


def test_unfinished_bodies_take_nothing_from_others(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(5 * IN_FLIGHT):
            stack.enter_context(half_sent(server)[0])
        statuses = {httpx.post(f"{server.url}/predict", json=EXAMPLE).status_code for _ in range(IN_FLIGHT)}
    assert statuses == {200}


def test_after_the_storm_everything_is_answered(server: Server) -> None:
    statuses = [httpx.post(f"{server.url}/predict", json=EXAMPLE).status_code for _ in range(3 * IN_FLIGHT)]
    assert set(statuses) == {200}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/predict", EXAMPLE), ("/predict/batch", {"applications": [EXAMPLE] * 100})],
    ids=["single", "batch"],
)
def test_a_key_that_fills_its_share_leaves_room_for_another(
    delivered: Delivered, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    loud, polite = (keys.create(name, Scope.PREDICT, requests_per_second=1e6) for name in ("loud", "polite"))
    changes = {"model": delivered.tag, "limits": {"in_flight": IN_FLIGHT, "batches_in_flight": IN_FLIGHT}}
    with serve_with(tmp_path, changes, keys.environment) as server:
        *others, last = at_once(server, path, json.dumps(body).encode(), [*[loud] * CALLERS, polite])
    assert last.status == 200
    statuses = Counter(answer.status for answer in others)
    assert set(statuses) == {200, 503}


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


def half_sent(server: Server) -> tuple[socket.socket, bytes]:
    """A connection on which half of a request has been sent, and the other half."""
    body = json.dumps(EXAMPLE).encode()
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    connection = connect(server)
    connection.sendall(head.encode() + body[:100])
    return connection, body[100:]


def answer(connection: socket.socket) -> bytes:
    """What is answered until the service closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_caller_who_does_not_finish_is_timed_out(server: Server) -> None:
    connection, _ = half_sent(server)
    assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_told_to_stop_the_service_finishes_what_it_has_begun_and_ends(server: Server) -> None:
    idle = HTTPConnection(str(urlsplit(server.url).netloc), timeout=30)
    idle.request("GET", "/livez")
    assert idle.getresponse().read() == b"\n"
    begun, rest = half_sent(server)
    httpx.get(f"{server.url}/livez").raise_for_status()  # by now the service has seen the half request
    server.process.terminate()
    assert idle.sock.recv(1) == b""  # the service is stopping: it has closed what is idle
    begun.sendall(rest)
    assert answer(begun).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(server)
