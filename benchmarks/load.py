"""Putting load on a server, in a closed and in an open loop, with a different request every time.

Requests are made before the load begins. One thread sends them over blocking sockets and waits with epoll, so that a
request costs the sender little more than its system calls. Every latency is kept, and nothing is corrected.
"""

from __future__ import annotations

import gc
import re
import socket
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from select import EPOLLIN, epoll, select

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError

GENERATOR = "load by benchmarks/load.py"
_PATIENCE = 10  # times as long as a window should take
_HEAD_END = b"\r\n\r\n"
_CHUNKS_END = b"0\r\n\r\n"
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_SUCCESS = re.compile(rb"HTTP/1\.1 2")
_READ = 1 << 18
_ACCEPTED_SECONDS = 0.003
"""For each connection, so that the server has accepted it before the load.

libuv accepts one connection in a turn of its loop: under load from the first of them, the last would wait a second.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and whole HTTP requests that are sent to it in turn, the first one again after the last."""

    host: str
    port: int
    requests: tuple[bytes, ...]


def post(host: str, port: int, path: str, body: bytes, *, kind: str, headers: tuple[str, ...] = ()) -> bytes:
    """A whole POST request; `headers` are of the form "Name: value".

    >>> post("localhost", 80, "/", b"[]", kind="application/json").split(b"\\r\\n")[0]
    b'POST / HTTP/1.1'
    """
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("ascii") + _HEAD_END + body


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What was seen from outside.

    Attributes
    ----------
    starts, latencies : int64, shape (n,), microseconds; one for each answer; in an open loop from when the request was
        due, so that whatever kept it from being sent counts as latency
    failed : answers other than 2xx, and requests without an answer
    held_back : arrivals of an open loop that found no free connection
    late : int64, shape (n,), microseconds from when each request of an open loop was due until it was sent
    cpu_seconds : processor time of the generator itself
    """

    starts: NDArray[np.int64]
    latencies: NDArray[np.int64]
    failed: int
    held_back: int = 0
    late: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    cpu_seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return float((self.starts + self.latencies).max() - self.starts.min()) / 1e6

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return len(self) / self.seconds

    @property
    def concurrency(self) -> float:
        """Requests under way on average: by Little's law, throughput x mean latency."""
        return self.throughput * float(self.latencies.mean()) / 1e6

    @property
    def generator_cores(self) -> float:
        """Which part of a core the generator took; near 1, the figures are its own rather than the server's."""
        return self.cpu_seconds / self.seconds

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the latencies."""
        return float(np.percentile(self.latencies, percentile)) / 1e3

    def late_ms(self, percentile: float) -> float:
        """A percentile of how late the requests of an open loop were sent; 0 for a closed loop."""
        return float(np.percentile(self.late, percentile)) / 1e3 if len(self.late) else 0.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Evenly spaced arrivals, `rate` each second, over so many connections that are taken in turn."""

    rate: float
    seconds: float
    connections: int

    @property
    def requests(self) -> int:
        """How many arrive in all.

        >>> Arrivals(rate=1.5, seconds=2, connections=8).requests
        3
        """
        return max(1, round(self.rate * self.seconds))

    def due(self, number: int) -> int:
        """Microseconds from the beginning until a request is due, the first being number 0."""
        return int(1e6 * number / self.rate)


def closed_loop(target: Target, *, connections: int, seconds: float) -> Sample:
    """Every connection sends its next request when its last is answered, until the time is over."""
    with _window(target, connections, limit=_PATIENCE * seconds) as window:
        end = _now() + int(seconds * 1e6)
        return window.closed(lambda: _now() < end)


def counted(target: Target, *, connections: int, requests: int, limit: float) -> Sample:
    """A closed loop of so many requests, all of them answered within `limit` seconds."""
    with _window(target, min(connections, requests), limit=limit) as window:
        return window.closed(lambda: window.sent < requests)


def open_loop(target: Target, plan: Arrivals) -> Sample:
    """Requests that arrive at their time, whether or not earlier ones are answered."""
    with _window(target, plan.connections, limit=_PATIENCE * plan.seconds) as window:
        return window.open(plan)


def _now() -> int:
    """Microseconds of a clock that only goes forward."""
    return time.perf_counter_ns() // 1000


class _Lost(Exception):  # noqa: N818 - a signal within this module
    """The server closed the connection before its answer was complete."""


class _Connection:
    """A connection that is kept alive, with at most one request under way."""

    __slots__ = ("_answer", "_size", "_socket", "begun", "number")

    def __init__(self, target: Target, limit: float) -> None:
        self._socket = socket.create_connection((target.host, target.port), timeout=limit)
        # Blocking with the kernel's own limit: Python's would cost one more system call each time.
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(limit) + 1, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self._socket.fileno()
        self.begun = 0
        self._forget()

    def _forget(self) -> None:
        self._answer, self._size = b"", -1

    def send(self, request: bytes, begun: int) -> None:
        """Send a request, whose latency counts from `begun`."""
        self.begun = begun
        try:
            self._socket.sendall(request)
        except OSError:
            raise _Lost from None

    def receive(self) -> bytes:
        """The answer, empty while it is not complete."""
        try:
            part = self._socket.recv(_READ)
        except OSError:
            raise _Lost from None
        if not part:
            raise _Lost
        answer = self._answer = self._answer + part if self._answer else part
        if self._size < 0:
            self._size = _size(answer)
        if self._size < 0 or len(answer) < self._size or (not self._size and not answer.endswith(_CHUNKS_END)):
            return b""
        self._forget()
        return answer

    def close(self) -> None:
        self._socket.close()


def _size(answer: bytes) -> int:
    """Bytes of the whole answer; 0 if it ends with its last chunk, -1 if its head is not complete."""
    end = answer.find(_HEAD_END)
    if end < 0:
        return -1
    length = _LENGTH.search(answer, 0, end)
    return end + len(_HEAD_END) + int(length[1]) if length else 0


class _Window:
    """Connections under load, and what is seen."""

    def __init__(self, target: Target, connections: int, limit: float) -> None:
        self._target, self._limit = target, limit
        self._poller = epoll()
        self._connections: dict[int, _Connection] = {}
        self._free: deque[_Connection] = deque(self._connect() for _ in range(connections))
        self._starts, self._latencies, self._late = array("q"), array("q"), array("q")
        self._failed = self.sent = 0
        time.sleep(_ACCEPTED_SECONDS * connections)
        self._deadline = _now() + int(limit * 1e6)
        self._cpu = time.process_time()

    def _connect(self) -> _Connection:
        try:
            made = _Connection(self._target, self._limit)
        except OSError as error:
            raise BenchmarkError(f"port {self._target.port}: no connection ({error.strerror or error})") from None
        self._connections[made.number] = made
        self._poller.register(made.number, EPOLLIN)
        return made

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._poller.close()

    def closed(self, more: Callable[[], bool]) -> Sample:
        """Send on every connection while there is more to send, and wait for every answer."""
        while self._free and more():
            self._send(_now())
        while self._busy:
            for connection in self._answered(self._poller.poll(self._left())):
                self._free.append(connection)
                # At once, before the other answers are read: the connection must not stand idle meanwhile.
                if more():
                    self._send(_now())
        return self._sample(0)

    def open(self, plan: Arrivals) -> Sample:
        """Send each request when it is due, or as soon as a connection is free after that."""
        begun, held_back, waiting = _now(), 0, False
        while self.sent < plan.requests or self._busy:
            wait = self._left()
            while self.sent < plan.requests:
                due = begun + plan.due(self.sent)
                early = due - _now()
                if early > 0:
                    wait = min(wait, early / 1e6)
                    break
                if not self._free:
                    held_back, waiting = held_back + (not waiting), True
                    break
                waiting = False
                self._late.append(-early)
                self._send(due)
            # epoll itself waits in whole milliseconds, too long where thousands of requests are due each second.
            select((self._poller,), (), (), wait)
            self._free.extend(self._answered(self._poller.poll(0)))
        return self._sample(held_back)

    @property
    def _busy(self) -> bool:
        return len(self._free) < len(self._connections)

    def _left(self) -> float:
        left = (self._deadline - _now()) / 1e6
        if left <= 0:
            raise BenchmarkError(f"the load had no end after {self._limit:.0f} s")
        return left

    def _send(self, begun: int) -> None:
        """Send the next request on the connection that has been free for longest."""
        connection = self._free.popleft()
        request = self._target.requests[self.sent % len(self._target.requests)]
        self.sent += 1
        try:
            connection.send(request, begun)
        except _Lost:
            self._free.append(self._instead_of(connection))

    def _answered(self, events: Sequence[tuple[int, int]]) -> Iterator[_Connection]:
        """The connections on which an answer is complete, and those opened instead of lost ones."""
        for number, _ in events:
            connection = self._connections[number]
            try:
                answer = connection.receive()
            except _Lost:
                yield self._instead_of(connection)
                continue
            if answer:
                self._starts.append(connection.begun)
                self._latencies.append(_now() - connection.begun)
                self._failed += _SUCCESS.match(answer) is None
                yield connection

    def _instead_of(self, lost: _Connection) -> _Connection:
        """Count the request of a lost connection as failed, and open another one."""
        self._failed += 1
        self._poller.unregister(lost.number)
        del self._connections[lost.number]
        lost.close()
        return self._connect()

    def _sample(self, held_back: int) -> Sample:
        cpu = time.process_time() - self._cpu
        if not len(self._starts):
            raise BenchmarkError(f"port {self._target.port}: no request was answered")
        starts, latencies, late = (
            np.array(values, dtype=np.int64) for values in (self._starts, self._latencies, self._late)
        )
        return Sample(starts, latencies, self._failed, held_back, late, cpu)


@contextmanager
def _window(target: Target, connections: int, *, limit: float) -> Iterator[_Window]:
    """Connections that are open, without pauses for the collection of garbage."""
    window = _Window(target, connections, limit)
    gc.disable()
    try:
        yield window
    finally:
        gc.enable()
        window.close()
