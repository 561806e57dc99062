"""Random requests over raw sockets: one request never gets two answers, and nobody else notices.

A slice of what `make fuzz` sends, which writes what it counted into a file.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.home_credit import EXAMPLE
from tests.server import Server, serve_with
from training.run import Delivered

REQUESTS = int(os.environ.get("FRAMING_REQUESTS", "1500"))
RESULTS = os.environ.get("FRAMING_RESULTS")
SEED = 20261128
BODY = json.dumps(EXAMPLE).encode()
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: HIDDEN\r\n\r\n"
CONTINUE = 100
DESIGNED = {501, 505}
"""The only 5xx that framing may be answered with."""
GROWTH = 64 << 20
"""Bytes that the processes of the service may grow by."""


@dataclass(frozen=True)
class Case:
    """What is sent over one connection, and how many answers it may get: from `least` to `most`.

    Where it is `reset`, the caller goes away with a reset as soon as all is sent.
    """

    kind: str
    content: bytes
    least: int
    most: int
    reset: bool = False


def _head(rng: Random, *lines: bytes, method: bytes = b"POST", target: bytes = b"/predict") -> bytes:
    fields = [b"Host: localhost", b"Content-Type: application/json", *lines]
    rng.shuffle(fields)
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *fields, b"", b""])


def _body(rng: Random) -> bytes:
    """An application, or a body that holds a whole request, any cut of which would be one."""
    return rng.choice([BODY, b"\r\n" * rng.randrange(40) + HIDDEN, HIDDEN + BODY, b""])


def _chunked(rng: Random, body: bytes) -> bytes:
    pieces, size = [], rng.choice([1, 7, 64, 4096])
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        extension = rng.choice([b"", b";a=b", b" ; q"])
        pieces.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
    trailers = rng.choice([b"", b"X-API-Key: k\r\n", b"X-Request-ID: HIDDEN\r\nContent-Type: text/plain\r\n"])
    return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


def _upgrade(rng: Random) -> list[bytes]:
    return rng.choice([
        [], [b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk"],
        [b"Connection: upgrade", b"Upgrade: websocket"], [b"Upgrade: " + rng.randbytes(3).hex().encode()],
    ])  # fmt: skip


def covered(rng: Random) -> Case:
    """A request whose framing covers all that is sent: whatever its body holds, it gets one answer."""
    body, lines = _body(rng), _upgrade(rng)
    if rng.random() < 0.5:
        head = _head(rng, b"Content-Length: %d" % len(body), *lines)
        return Case("covered by a length", head + body, 1, 1)
    return Case("covered by chunks", _head(rng, b"Transfer-Encoding: chunked", *lines) + _chunked(rng, body), 1, 1)


_LENGTH = b"Content-Length: %d" % len(HIDDEN)
_AMBIGUOUS = [
    [b"Content-Length: 5", b"Content-Length: 6"], [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: gzip, chunked"], [b"Transfer-Encoding: chunked, chunked"], [b"Transfer-Encoding: xchunked"],
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], [b"Content-Length: +5"], [b"Content-Length: -1"],
    [b"Content-Length: 0x5"], [b"Content-Length: 5, 5"], [b"Content-Length: "], [b"Content-Length : 5"],
    [b"Transfer-Encoding : chunked"], [b"Transfer-Encoding:\x0bchunked"], [b"X: a\nContent-Length: 5"],
    [b"X: a\r\n folded"], [b"X: a\x00b", _LENGTH], [b"Content-Length: 99999999999999999999"],
    [b"Host: other", _LENGTH], [b"\x80\xff: 1", _LENGTH],
]  # fmt: skip


def ambiguous(rng: Random) -> Case:
    """What two readers could understand differently is refused, and what follows is no request."""
    return Case("ambiguous", _head(rng, *rng.choice(_AMBIGUOUS)) + HIDDEN, 1, 1)


def pipelined(rng: Random) -> Case:
    """So many requests at once get so many answers."""
    count = rng.randrange(1, 6)
    return Case("pipelined", _head(rng, method=b"GET", target=b"/livez") * count, count, count)


def mixed(rng: Random) -> Case:
    """Requests of all forms at once get so many answers."""
    count = rng.randrange(2, 6)
    pieces = [_probe(rng) if rng.random() < 0.3 else covered(rng).content for _ in range(count)]
    return Case("mixed pipeline", b"".join(pieces), count, count)


def _probe(rng: Random) -> bytes:
    return _head(rng, *_upgrade(rng), method=b"GET", target=b"/livez")


def expecting(rng: Random) -> Case:
    """A caller that wants to be told to go on, and sends its body without waiting: one answer, after 100 or not."""
    body = _body(rng)
    head = _head(rng, b"Content-Length: %d" % len(body), b"Expect: " + rng.choice([b"100-continue", b"100-Continue"]))
    return Case("expecting", head + body, 1, 1)


def reset(rng: Random) -> Case:
    """A request, or a pipeline of them, whose caller goes away in the middle."""
    whole = rng.choice([covered, mixed, expecting])(rng).content
    return Case("reset", whole[: rng.randrange(len(whole)) + 1], 0, 5, reset=True)


def cut(rng: Random) -> Case:
    """A request that is not finished."""
    whole = covered(rng).content
    return Case("cut", whole[: rng.randrange(len(whole))], 0, 1)


def strange(rng: Random) -> Case:
    """Other methods, targets and versions, or no HTTP at all."""
    method = rng.choice([b"GET", b"PUT", b"TRACE", b"CONNECT", b"get", b"PRI", b"M-SEARCH", b"", b"\xff"])
    target = rng.choice(
        [b"/predict", b"//predict", b"http://localhost/livez", b"*", b"/%00", b"/../x", b"a b", b"", b"\xf0/"]
    )
    version = rng.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"", b"ICY/1.0"])
    line = rng.choice(
        [method + b" " + target + b" " + version, rng.randbytes(rng.randrange(1, 60)).replace(b"\n", b"")]
    )
    return Case("strange", line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n", 0, 1)


def large(rng: Random) -> Case:
    """A head beyond its limits."""
    fields = rng.choice([[b"X: " + b"a" * 40_000], [b"a:b"] * 200, [b"X%d: 1" % i for i in range(150)]])
    return Case("large", _head(rng, *fields, method=b"GET", target=b"/livez"), 1, 1)


KINDS: list[Callable[[Random], Case]] = [
    covered,
    covered,
    covered,
    ambiguous,
    ambiguous,
    pipelined,
    mixed,
    expecting,
    reset,
    cut,
    strange,
    large,
]


@dataclass
class Found:
    """What came of it."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def note(self, number: int, case: Case, answered: bytes) -> None:
        """Count what was answered, and keep what must not be."""
        told = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]
        self.statuses.update(told)
        statuses = [status for status in told if status != CONTINUE]
        self.kinds[case.kind] += 1
        wrong = [status for status in statuses if status >= 500 and status not in DESIGNED]
        if (
            wrong
            or len(told) - len(statuses) > 1
            or not case.least <= len(statuses) <= case.most
            or b"HIDDEN" in answered
        ):
            self.faults.append(f"{number}, {case.kind}: {statuses} to {case.content[:300]!r}")


def exchange(address: tuple[str, int], number: int, rng: Random, content: bytes, *, reset: bool = False) -> bytes:
    """All that is answered to content that is sent in a few pieces, and to its end; nothing to one that is reset."""
    source = (f"127.0.0.{2 + number % 8}", 0)
    with socket.create_connection(address, timeout=600, source_address=source) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cuts = sorted(rng.choices(range(len(content) + 1), k=rng.randrange(4)))
        try:
            for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
                connection.sendall(content[start:end])
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except (BrokenPipeError, ConnectionResetError):  # refused before all was sent
            return _rest(connection)


def _rest(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""


@contextmanager
def honest_caller(url: str) -> Iterator[list[float]]:
    """Asks all the time and gets its own answers; how long each took, in seconds."""
    over, took, wrong = threading.Event(), list[float](), list[object]()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=600) as client:
            while not over.is_set():
                body = {**EXAMPLE, "client_id": f"HONEST-{len(took)}"}
                begun = time.perf_counter()
                answer = client.post("/predict", json=body)
                took.append(time.perf_counter() - begun)
                if answer.status_code != 200 or answer.json()["client_id"] != body["client_id"]:
                    wrong.append(answer.text)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()
    assert wrong == []


def resident(server: Server) -> int:
    """Bytes of all processes of the service."""
    parent = psutil.Process(server.process.pid)
    return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])


@pytest.fixture(scope="module")
def server(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve_with(tmp_path_factory.mktemp("framing-fuzz"), {"model": delivered.tag}) as running:
        yield running


def test_random_framing(server: Server) -> None:
    rng, found, place = Random(SEED), Found(), urlsplit(server.url)
    address = (str(place.hostname), int(place.port or 0))
    for number in range(100):  # what is made once is made
        exchange(address, number, rng, covered(rng).content)
    before, begun = resident(server), time.monotonic()
    with honest_caller(server.url) as took:
        for number in range(REQUESTS):
            case = rng.choice(KINDS)(rng)
            found.note(number, case, exchange(address, number, rng, case.content, reset=case.reset))
    growth = resident(server) - before
    if RESULTS:
        _write(Path(RESULTS), found, took, time.monotonic() - begun, growth)
    assert found.faults == []
    assert took
    assert growth < GROWTH
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert "Traceback" not in server.logged
    server.process.terminate()
    assert server.process.wait(600) == 0


def _write(path: Path, found: Found, took: list[float], seconds: float, growth: int) -> None:
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    kept["framing"] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"make fuzz FUZZ_REQUESTS={REQUESTS}",
        "seed": SEED,
        "connections": REQUESTS,
        "seconds": round(seconds),
        "kinds": dict(sorted(found.kinds.items())),
        "statuses": {str(status): count for status, count in sorted(found.statuses.items())},
        "faults": len(found.faults),
        "honest_caller": {
            "answers": len(took),
            "wrong": 0,
            "slowest_ms": round(1000 * max(took), 1),
            "slower_than_1_s": sum(one > 1 for one in took),
        },
        "memory_growth_mb": round(growth / 1e6, 1),
    }
    path.write_text(json.dumps(kept, indent=2) + "\n")
