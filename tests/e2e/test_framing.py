"""What comes over raw sockets: framing, sizes, times; one request never gets two answers."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.home_credit import EXAMPLE
from tests.server import Server, serve_with
from training.run import Delivered

BODY = json.dumps(EXAMPLE).encode()
SECONDS = 3
MANY = 100_000
"""Applications, the answers to which are larger than what the system keeps of a connection."""
INNER = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: INNER\r\n\r\n"
JSON = b"Content-Type: application/json"
CLOSES = b"\r\nconnection: close\r\n"


@pytest.fixture(scope="module")
def server(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    changes = {
        "model": delivered.tag,
        "limits": {"timeout_seconds": SECONDS},
        "connections": {"head_seconds": SECONDS, "unread_seconds": SECONDS, "hosts": ["scores.example"]},
    }
    with serve_with(tmp_path_factory.mktemp("framing"), changes) as running:
        yield running


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)


def post(*lines: bytes, target: bytes = b"/predict", host: bytes | None = b"localhost") -> bytes:
    """The head of a request."""
    hosts = [] if host is None else [b"Host: " + host]
    return b"\r\n".join([b"POST " + target + b" HTTP/1.1", *hosts, *lines, b"", b""])


def whole(*lines: bytes, body: bytes = BODY) -> bytes:
    return post(JSON, b"Content-Length: %d" % len(body), *lines) + body


def chunked(body: bytes, trailers: bytes = b"", size: int = 1000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def everything(server: Server, *pieces: bytes) -> bytes:
    """All that is answered to the pieces, each sent by itself, and to the end of what is sent."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def statuses(answered: bytes) -> list[int]:
    """Of all answers in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]


def asked(server: Server, *pieces: bytes) -> list[int]:
    return statuses(everything(server, *pieces))


UPGRADES = [
    (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ),
    (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Version: 13"),
    (b"connection: keep-alive, UPGRADE", b"uPGRADE: foo"),
    (b"Connection: Upgrade", b"Upgrade: a", b"Upgrade: b"),
    (b"Upgrade: h2c",),
]


@pytest.mark.parametrize("lines", UPGRADES)
def test_a_wish_to_upgrade_is_ignored(server: Server, lines: Sequence[bytes]) -> None:
    request = whole(*lines)
    assert asked(server, request) == [200]
    head = request.index(b"\r\n\r\n") + 4
    assert asked(server, request[:head], request[head:]) == [200]
    assert asked(server, post(JSON, b"Transfer-Encoding: chunked", *lines), chunked(BODY)) == [200]


def test_a_request_in_a_body_is_not_answered_wherever_it_is_cut(server: Server) -> None:
    request = whole(*UPGRADES[2], body=b"\r\n" * 3 + INNER)
    for cut in range(1, len(request)):
        answered = everything(server, request[:cut], request[cut:])
        assert statuses(answered) == [400], cut
        assert b"INNER" not in answered


def test_requests_in_one_segment_are_answered_in_order(server: Server) -> None:
    named = [whole(b"X-Request-ID: number-%d" % number) for number in range(5)]
    answered = everything(server, b"".join(named))
    assert statuses(answered) == [200] * 5
    assert re.findall(rb"x-request-id: (\S+)", answered) == [b"number-%d" % number for number in range(5)]
    mixed = post(JSON, b"Transfer-Encoding: chunked") + chunked(BODY) + whole() + INNER
    assert asked(server, *(mixed[place : place + 1] for place in range(len(mixed)))) == [200, 200, 200]


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (501, post(JSON, b"Transfer-Encoding: gzip, chunked") + chunked(BODY)),
        (501, post(JSON, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + chunked(BODY)),
        (501, post(JSON, b"Transfer-Encoding: identity") + BODY),
        (501, post(JSON, b"Transfer-Encoding:\r\n chunked".replace(b"\r\n ", b" x")) + chunked(BODY)),
        (400, post(JSON, b"Transfer-Encoding: chunked", b"Content-Length: 5") + chunked(BODY)),
        (400, post(JSON, b"Content-Length: 5", b"Content-Length: 5") + b"12345"),
        (400, post(JSON, b"Content-Length: 5, 5") + b"12345"),
        (400, post(JSON, b"Content-Length: +5") + b"12345"),
        (400, post(JSON, b"Content-Length:") + INNER),
        (400, post(JSON, b"Content-Length : 5") + b"12345"),
        (400, post(JSON, b"X: a\r\n Transfer-Encoding: chunked") + INNER),
        (400, post(JSON, b"X: a\nTransfer-Encoding: chunked") + INNER),
        (400, post(JSON, b"Transfer-Encoding: chunked") + b"5\n12345\r\n0\r\n\r\n" + INNER),
        (400, post(JSON, b"Transfer-Encoding: chunked") + b"-5\r\n12345\r\n0\r\n\r\n" + INNER),
        (400, post(JSON, b"Transfer-Encoding: chunked") + b"5\r\n1234567\r\n0\r\n\r\n" + INNER),
        (400, post(JSON, b"Transfer-Encoding: chunked") + b"0\r\nno trailer\r\n\r\n" + INNER),
        (400, post(JSON, b"Content-Length: 2", host=None) + b"{}"),
        (400, post(JSON, b"Content-Length: 2", b"Host: localhost") + b"{}"),
        (400, post(JSON, JSON, b"Content-Length: 2") + b"{}"),
        (400, post(JSON, b"Content-Length: 2", b"X-Request-ID: a", b"X-Request-ID: b") + b"{}"),
        (400, post(JSON, b"Content-Length: 2", b"Content-Encoding: gzip", b"Content-Encoding: identity") + b"{}"),
        (404, post(JSON, b"Content-Length: 2", target=b"//predict") + b"{}"),
        (421, post(JSON, b"Content-Length: 2", host=b"evil.example") + b"{}"),
        (421, post(JSON, b"Content-Length: 2", host=b"127.0.0.1.evil.example:80") + b"{}"),
        (501, b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + INNER),
        (505, b"POST /predict HTTP/2.0\r\nHost: localhost\r\n\r\n" + INNER),
        (400, b"GET /livez\r\n\r\n" + INNER),
        (431, post(JSON, *[b"a:b"] * 200)),
        (431, post(JSON, b"X: " + b"y" * 40_000)),
        (431, post(JSON, b"Transfer-Encoding: chunked") + chunked(BODY, b"X: y\r\n" * 10_000)),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_once(server: Server, status: int, request_: bytes) -> None:
    first = [status]
    assert [asked(server, request_)[:1], asked(server, *(request_[:60], request_[60:]))[:1]] == [first, first]
    if status not in (404, 421):
        closing = everything(server, request_ + INNER)
        assert b"INNER" not in closing or b"Content-Length: 2" in request_


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:80", b"127.0.0.1:9", b"127.3.2.1", b"[::1]:3000", b"scores.example"]
)
def test_loopback_and_the_hosts_of_the_settings_are_answered(server: Server, host: bytes) -> None:
    assert asked(server, post(JSON, b"Content-Length: %d" % len(BODY), host=host) + BODY) == [200]


def test_a_trailer_is_no_header(server: Server) -> None:
    trailers = JSON + b"\r\nX-Request-ID: TRAILER\r\n"
    assert asked(server, post(b"Transfer-Encoding: chunked") + chunked(BODY, trailers)) == [415]
    answered = everything(server, post(JSON, b"Transfer-Encoding: chunked") + chunked(BODY, trailers))
    assert statuses(answered) == [200]
    assert b"TRAILER" not in answered


def test_a_caller_who_will_send_no_more_gets_the_answer(server: Server) -> None:
    assert asked(server, whole()) == [200]
    assert asked(server, whole()[:-1]) == []


def test_endless_headers_cost_no_more_than_the_limit(server: Server) -> None:
    family = psutil.Process(server.pid).children(recursive=True)
    before = sum(process.memory_info().rss for process in family)
    for line in (b"a:b\r\n" * 20, b"y" * 100):
        with connect(server) as connection, pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe
            connection.sendall(b"GET / HTTP/1.1\r\n" + line * 1_000_000)
        assert httpx.post(f"{server.url}/predict", json=EXAMPLE).status_code == 200
    assert sum(process.memory_info().rss for process in family) - before < 50e6


def test_what_is_unfinished_is_ended_in_time(server: Server) -> None:
    refused = post(b"Content-Type: text/plain", b"Content-Length: 100") + b"half"
    unfinished = {b"": [], b"POST /predict HT": [408], post(JSON, b"Content-Length: 100") + b"{": [408], refused: [415]}
    for sent, expected in unfinished.items():
        with connect(server) as connection:
            connection.sendall(sent)
            assert statuses(b"".join(iter(lambda c=connection: c.recv(65_536), b""))) == expected  # type: ignore[misc]


@pytest.mark.parametrize("close", [b"keep-alive", b"close"])
@pytest.mark.parametrize("path", [b"/predict", b"/predict/batch"])
def test_the_caller_of_a_body_that_is_too_large_sees_the_answer(server: Server, path: bytes, close: bytes) -> None:
    headers = {"Content-Type": "application/json", "Connection": close.decode()}
    answer = httpx.post(server.url + path.decode(), content=b" " * 40_000_000, headers=headers, timeout=60)
    assert answer.status_code == 413


@contextmanager
def not_reading(server: Server, applications: int) -> Iterator[socket.socket]:
    """The connection of a caller who reads no more than the status of the answer to its batch."""
    batch = json.dumps({"applications": [{"application": {}}] * applications}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((str(urlsplit(server.url).hostname), int(urlsplit(server.url).port or 0)))
        connection.sendall(post(JSON, b"Content-Length: %d" % len(batch), target=b"/predict/batch") + batch)
        assert connection.recv(12) == b"HTTP/1.1 200"
        yield connection


def rest(connection: socket.socket) -> tuple[int, int]:
    """How long the body is said to be, and how much of it comes."""
    answered = bytearray()
    while b"\r\n\r\n" not in answered or len(answered) < sum(lengths(answered)):
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            break
        if not piece:
            break
        answered += piece
    head, said = lengths(answered)
    return said, len(answered) - head


def lengths(answered: bytes) -> tuple[int, int]:
    """Of the head, and of the body as the head has it."""
    found = re.search(rb"content-length: (\d+)\r\n", answered)
    assert found
    return answered.index(b"\r\n\r\n") + 4, int(found[1])


def test_a_caller_who_does_not_read_holds_up_no_shutdown_and_others_get_their_answers(
    delivered: Delivered, tmp_path: Path
) -> None:
    changes = {"model": delivered.tag, "limits": {"timeout_seconds": 20, "batch_applications": MANY}}
    with serve_with(tmp_path, changes) as server, not_reading(server, MANY), connect(server) as other:
        request = whole()
        other.sendall(request[:-1])
        httpx.get(f"{server.url}/livez").raise_for_status()  # by now the service has seen what has begun
        server.process.terminate()
        other.sendall(request[-1:])
        assert statuses(b"".join(iter(lambda: other.recv(65_536), b""))) == [200]
        assert server.process.wait(60) == 0  # the caller that does not read holds its connection until then


@pytest.mark.parametrize("more", [(), (b"TE: trailers",)], ids=["direct", "long way"])
def test_told_to_stop_the_service_answers_whoever_goes_on_asking_and_says_that_it_closes(
    delivered: Delivered, tmp_path: Path, more: tuple[bytes, ...]
) -> None:
    with serve_with(tmp_path, {"model": delivered.tag}) as server, connect(server) as caller:
        caller.sendall(whole(*more))
        answered = one_answer(caller)
        assert CLOSES not in answered
        server.process.terminate()
        while CLOSES not in answered:
            caller.sendall(whole(*more))
            answered = one_answer(caller)
            assert statuses(answered) == [200]
        assert caller.recv(1) == b""
        assert server.process.wait(60) == 0


def one_answer(connection: socket.socket) -> bytes:
    answered = b""
    while b"\r\n\r\n" not in answered or len(answered) < sum(lengths(answered)):
        piece = connection.recv(65_536)
        assert piece
        answered += piece
    return answered


def test_a_connection_that_is_idle_after_an_early_answer_is_closed(server: Server) -> None:
    with connect(server) as caller:
        caller.sendall(post(b"Content-Type: text/plain", b"Content-Length: 10"))
        assert statuses(one_answer(caller)) == [415]
        caller.sendall(b"0123456789")
        assert caller.recv(1) == b""


def test_where_too_much_is_unread_the_largest_answers_are_cut_off(delivered: Delivered, tmp_path: Path) -> None:
    connections = {"unread_bytes": 100_000, "unread_seconds": 600}
    changes = {"model": delivered.tag, "connections": connections, "limits": {"batch_applications": MANY}}
    with (
        serve_with(tmp_path, changes) as server,
        not_reading(server, 50) as small,
        not_reading(server, MANY) as large,
    ):
        worker = psutil.Process(server.pid)
        eventually(lambda: large.getsockname()[1] not in taken(worker))
        said, came = rest(large)
        assert came < said
        said, came = rest(small)
        assert came == said
        assert asked(server, whole()) == [200]


def taken(parent: psutil.Process) -> set[int]:
    """The ports of the callers whose connections the service holds."""
    family = [parent, *parent.children(recursive=True)]
    found = [each for process in family for each in process.net_connections("tcp")]
    return {each.raddr.port for each in found if each.status == psutil.CONN_ESTABLISHED}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_bad_requests_leave_one_line_with_the_address_and_no_content(server: Server) -> None:
    for _ in range(50):
        asked(server, b"S3CR3T\r\n\r\n")
    lines = [line for line in server.logged.splitlines() if "unreadable request" in line]
    assert all("127.0.0.1" in line for line in lines)
    assert 1 <= len(lines) < 50
    assert "S3CR3T" not in server.logged
    assert "Invalid HTTP request received" not in server.logged


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://localhost/livez", 200),
        (b"HTTP://LOCALHOST/livez", 200),
        (b"http://evil.example/livez", 400),
        (b"http://localhost.evil.example/livez", 400),
        (b"http://localhost@evil.example/livez", 400),
        (b"http:///livez", 400),
        (b"ftp://localhost/livez", 400),
    ],
)
def test_a_target_must_name_the_same_host_as_host(server: Server, target: bytes, status: int) -> None:
    assert asked(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") == [status]
