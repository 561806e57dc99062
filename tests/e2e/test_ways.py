"""The direct way of a request and the long one give the same answers, and count them alike."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from scoring.keys import Scope
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import Server, serve_with
from training.run import Delivered

LONG_WAY = b"TE: trailers\r\n"
"""A field without any consequence but the way of its request."""
APPLICATION: dict[str, Any] = EXAMPLE["application"]


def posted(server: Server, body: bytes, fields: bytes = b"", *, times: int = 1) -> list[tuple[bytes, bytes, bytes]]:
    """Status line, sorted fields and body of each answer to the same request, sent so many times at once."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-ID: r-1\r\n"
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        connection.sendall((head + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body) * times)
        connection.shutdown(socket.SHUT_WR)
        left = b"".join(iter(lambda: connection.recv(65_536), b""))
    found = []
    while left:
        head, _, left = left.partition(b"\r\n\r\n")
        line, *given = head.split(b"\r\n")
        size = int(re.findall(rb"content-length: (\d+)", head)[0])
        told = re.sub(rb'"timestamp":"[^"]+"', b"", left[:size])
        found.append((line, b"\n".join(sorted(one for one in given if not one.startswith(b"date:"))), told))
        left = left[size:]
    return found


def body_of(**changes: Any) -> bytes:
    return json.dumps({**EXAMPLE, "application": APPLICATION | changes}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (body_of(), 200),
        (body_of(EXT_SOURCE_1=0.01, EXT_SOURCE_2=0.01, EXT_SOURCE_3=0.01), 200),
        (json.dumps({"application": APPLICATION, "client_id": "Zoë"}, ensure_ascii=False).encode(), 200),
        (b"\xef\xbb\xbf" + body_of(), 200),
        (body_of(AMT_CREDIT=-1), 422),
        (body_of(NO_SUCH_COLUMN=1), 422),
        (body_of()[:-1] + b', "client_id": "twice"}', 422),
        (b"{}", 422),
        (b"[]", 422),
        (b"nothing", 400),
        (b"\xff\xfe", 400),
        (b"[" * 2000, 400),
        (b" " * 70_000 + body_of(), 413),
    ],
)
def test_both_ways_give_the_same_answer(server: Server, body: bytes, status: int) -> None:
    [direct], [long] = posted(server, body), posted(server, body, LONG_WAY)
    assert direct == long
    assert direct[0].startswith(b"HTTP/1.1 %d " % status)


def test_requests_behind_one_another_are_answered_in_their_order(server: Server) -> None:
    answers = posted(server, body_of(), times=5) + posted(server, body_of(), LONG_WAY, times=5)
    assert answers == answers[:1] * 10


def _count(server: Server, status: int) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(
        rf'^credit_scoring_requests_total{{endpoint="/predict",status="{status}"}} (.+)$', text, re.MULTILINE
    )
    return sum(map(float, found))


@pytest.mark.parametrize(("body", "status"), [(body_of(), 200), (b"nothing", 400)])
@pytest.mark.parametrize("fields", [b"", LONG_WAY])
def test_both_ways_are_counted(server: Server, body: bytes, status: int, fields: bytes) -> None:
    before = _count(server, status)
    posted(server, body, fields, times=3)
    assert _count(server, status) == before + 3


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys") / "keys.yaml")
    made.create("may", Scope.PREDICT)
    made.create("may-not", Scope.EXPLAIN)
    return made


@pytest.fixture(scope="module")
def guarded(delivered: Delivered, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve_with(tmp_path_factory.mktemp("guarded"), {"model": delivered.tag}, keys.environment) as running:
        yield running


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("X-API-Key: {may}\r\n", 200),
        ("Authorization: Bearer {may}\r\n", 200),
        ("", 401),
        ("X-API-Key: unknown\r\n", 401),
        ("X-API-Key: {may}\r\nAuthorization: Bearer {may}\r\n", 401),
        ("X-API-Key: {may-not}\r\n", 403),
    ],
)
def test_both_ways_admit_the_same_callers(guarded: Server, keys: Keys, fields: str, status: int) -> None:
    key = fields.format_map(keys.secrets).encode()
    [direct], [long] = posted(guarded, body_of(), key), posted(guarded, body_of(), key + LONG_WAY)
    assert direct == long
    assert direct[0].startswith(b"HTTP/1.1 %d " % status)
