"""Callers who hold connections: slow ones, idle ones, ten times as many requests as rated."""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import yaml

from tests.faults.conftest import Note
from tests.faults.rehearsal import Asked, address, eventually, recording_service, under_load
from tests.server import ROOT, Server
from tests.skipped import needs
from tests.workers import workers
from training.run import Delivered

_SETTINGS = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text())
_SLOW = _SETTINGS["limits"]["in_flight"] + 44
_SLOW_SECONDS = _SETTINGS["limits"]["timeout_seconds"] + 5  # a byte in each
_IDLE, _SPARE = 10_000, 500
_LATE_SECONDS = 3.0
"""What a busy worker may take longer to end a connection than its settings say."""
_OVERLOAD, _OVERLOAD_SECONDS, _CALLERS = 10, 60, 1000
_STATUS = re.compile(r"status codes: (\d+) 2xx, \d+ 3xx, (\d+) 4xx, (\d+) 5xx")
_RATE = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")


def test_callers_are_slow(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """Bodies that come byte by byte take nothing from anybody, and are given up in time."""
    limits = {"timeout_seconds": _SETTINGS["limits"]["timeout_seconds"]}
    with recording_service(tmp_path, delivered.tag, limits=limits) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            with _connections(server, _SLOW) as slow:
                for connection in slow:
                    connection.sendall(_head(len(asked.bodies[0])))
                for byte in range(int(_SLOW_SECONDS)):
                    _send(slow, asked.bodies[0][byte : byte + 1])
                    time.sleep(1.0)
                answers = Counter(_status(connection) for connection in slow)
        assert set(watch.account["requests"]) == {"200"}
        assert set(answers) == {"408"}
    note("slow callers", watch.account, slow=f"{_SLOW} connections, a byte a second, all answered with 408")


def _head(length: int) -> bytes:
    lines = [
        "POST /predict HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def _send(connections: Sequence[socket.socket], byte: bytes) -> None:
    for connection in connections:
        try:
            connection.sendall(byte)
        except OSError:  # it was given up
            continue


def _status(connection: socket.socket) -> str:
    """Of the answer; "none" where the connection is open and silent."""
    connection.settimeout(1.0)
    try:
        return connection.recv(64).decode("ascii").split(" ")[1]
    except TimeoutError:
        return "none"


def test_connections_are_idle(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """Connections without a request take nothing from anybody, and are ended in time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the service inherits it
    count = min(_IDLE, hard - _SPARE)
    try:
        with recording_service(tmp_path, delivered.tag) as server:
            (worker,) = map(psutil.Process, workers(server))
            before = worker.memory_info().rss
            with under_load(server, asked, tmp_path / "log") as watch:
                watch.strike()
                with _connections(server, count) as idle:
                    opened = time.monotonic()
                    held = len(worker.net_connections("tcp"))
                    grown = (worker.memory_info().rss - before) / 1e6
                    assert eventually(lambda: watch.answered_since(opened)) < 5
                    eventually(lambda: all(map(_is_ended, idle)))
                    ended = time.monotonic() - opened
            assert ended < _SETTINGS["connections"]["head_seconds"] + _LATE_SECONDS
            assert set(watch.account["requests"]) == {"200"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    note(
        "idle connections", watch.account, idle=f"{count:,}, {held:,} of them at once", memory=f"{grown:.0f} MB more",
        ended_by_the_service_after=f"{ended:.1f} s",
    )  # fmt: skip


def _is_ended(connection: socket.socket) -> bool:
    """Whether the service has closed a connection on which nothing was sent."""
    try:
        return connection.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@contextmanager
def _connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(address(server), timeout=30)) for _ in range(count)]


@needs("h2load")
def test_ten_times_the_rated_load(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """What is too much is refused at once, and what is accepted is answered. Half of saturation is the rated load."""
    body = tmp_path / "body.json"
    body.write_bytes(asked.bodies[0])
    with recording_service(tmp_path, delivered.tag) as server:
        (_, _, _), saturation = _loaded(server, body, ["--clients=64", "--duration=5"])
        rate = _OVERLOAD * saturation / 2
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            options = [f"--clients={_CALLERS}", f"--duration={_OVERLOAD_SECONDS}", f"--rps={rate / _CALLERS:.3f}"]
            (answered, refused, shed), _ = _loaded(server, body, options)
            over = time.monotonic()
            again = eventually(lambda: watch.answered_since(over))
        assert set(watch.account["requests"]) <= {"200", "503"}
        assert refused == 0
        assert answered > 0
    longest = max(one.ended - one.connected for one in watch.load.outcomes if one.connected is not None)
    note(
        f"{_OVERLOAD} times the rated load for {_OVERLOAD_SECONDS} s",
        watch.account,
        rated=f"{saturation / 2:,.0f} a second, {rate:,.0f} wanted by {_CALLERS:,} connections on the same two cores",
        came=f"{(answered + shed) / _OVERLOAD_SECONDS:,.0f} a second, {answered:,} answered, {shed:,} refused with 503",
        longest_answer=f"{longest:.1f} s",
        answered_after_it=f"{again:.2f} s",
    )


def _loaded(server: Server, body: Path, options: Sequence[str]) -> tuple[tuple[int, int, int], float]:
    """How many answers were 2xx, 4xx and 5xx, and how many came a second."""
    command = ["h2load", "--h1", *options, "--header=Content-Type: application/json", f"--data={body}"]
    said = subprocess.run([*command, f"{server.url}/predict"], capture_output=True, text=True, check=True).stdout
    status, rate = _STATUS.search(said), _RATE.search(said)
    assert status
    assert rate
    answered, refused, failed = map(int, status.groups())
    return (answered, refused, failed), float(rate[1])
