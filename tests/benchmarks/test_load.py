"""What the load generator sends and counts, against real servers that answer, refuse, hang up or are slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError
from benchmarks.load import Arrivals, Sample, Target, closed_loop, counted, open_loop, post

SLOW_SECONDS = 0.02


class Handler(BaseHTTPRequestHandler):
    """Answers by the first word of the body, and keeps the bodies."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        word = body.split()[0]
        if word == b"hang-up":
            self.close_connection = True
            return
        if word == b"slow":
            time.sleep(SLOW_SECONDS)
        self.send_response(422 if word == b"refuse" else 200)
        if word == b"chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in (b"2\r\nab\r\n", b"1\r\nc\r\n", b"0\r\n\r\n"):
                self.wfile.write(chunk)
            return
        content = b"x" * (1_000_000 if word == b"large" else 3)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the load ends with answers under way
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []

    def target(self, *bodies: bytes) -> Target:
        port = self.server_address[1]
        return Target(
            "127.0.0.1", port, tuple(post("127.0.0.1", port, "/", body, kind="text/plain") for body in bodies)
        )


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sample(starts_ms: list[float], latencies_ms: list[float]) -> Sample:
    def microseconds(values: list[float]) -> np.ndarray:
        return (np.array(values) * 1000).astype(np.int64)

    return Sample(microseconds(starts_ms), microseconds(latencies_ms), 0)


def test_requests_are_sent_in_turn_and_the_first_again_after_the_last(listener):
    seen = counted(listener.target(b"a", b"b", b"c"), connections=1, requests=7, limit=10)
    assert listener.bodies == [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]
    assert (len(seen), seen.failed) == (7, 0)


def test_as_many_requests_are_under_way_as_there_are_connections(listener):
    seen = counted(listener.target(b"slow"), connections=4, requests=40, limit=10)
    assert (len(seen), seen.failed) == (40, 0)
    assert seen.concurrency == pytest.approx(4, rel=0.1)
    assert seen.milliseconds(0) >= 1000 * SLOW_SECONDS


def test_a_closed_loop_goes_on_for_its_time_and_every_request_is_waited_for(listener):
    seen = closed_loop(listener.target(b"slow", b"a"), connections=2, seconds=0.3)
    assert len(seen) == len(listener.bodies)
    assert seen.seconds >= 0.3
    assert seen.cpu_seconds > 0


def test_refusals_are_counted_and_have_a_latency(listener):
    seen = counted(listener.target(b"a", b"refuse"), connections=1, requests=10, limit=10)
    assert (len(seen), seen.failed) == (10, 5)


def test_a_lost_connection_is_an_error_and_another_one_takes_its_place(listener):
    seen = counted(listener.target(b"a", b"hang-up", b"b"), connections=2, requests=9, limit=10)
    assert (len(seen), seen.failed) == (6, 3)
    assert len(listener.bodies) == 9


@pytest.mark.parametrize("body", [b"chunks", b"large", b"large " + b"y" * 3_000_000])
def test_answers_and_bodies_of_every_form_are_passed_whole(listener, body):
    seen = counted(listener.target(body), connections=1, requests=3, limit=10)
    assert (len(seen), seen.failed) == (3, 0)
    assert listener.bodies == [body] * 3


def test_arrivals_wait_for_no_answer(listener):
    seen = open_loop(listener.target(b"slow"), Arrivals(rate=200, seconds=0.5, connections=100))
    assert (len(seen), seen.failed, seen.held_back) == (100, 0, 0)
    gaps = np.diff(np.sort(seen.starts))
    assert (gaps.min(), gaps.max()) == (5_000, 5_000)
    assert len(seen.late) == 100
    assert seen.late.min() >= 0


def test_an_arrival_without_a_free_connection_waits_and_its_wait_is_latency(listener):
    seen = open_loop(listener.target(b"slow"), Arrivals(rate=100, seconds=0.2, connections=1))
    assert len(seen) == 20
    assert seen.held_back == 19
    assert seen.latencies.max() >= 210_000  # the last is due after 190 ms, and 20 answers take 400 ms


def test_a_server_that_is_not_there_is_said_in_one_line(listener):
    listener.server_close()
    with pytest.raises(BenchmarkError, match=r"^port \d+: no connection \(Connection refused\)$"):
        counted(listener.target(b"a"), connections=1, requests=1, limit=1)


def test_a_load_without_an_end_is_given_up(listener):
    with pytest.raises(BenchmarkError, match=r"^the load had no end after 0 s$"):
        counted(listener.target(b"slow"), connections=1, requests=100, limit=0.1)


@given(rate=st.floats(1, 20_000), seconds=st.floats(1, 60))
def test_arrivals_keep_their_rate_to_the_end(rate, seconds):
    plan = Arrivals(rate, seconds, 128)
    assert plan.due(0) == 0
    assert plan.due(plan.requests) == pytest.approx(1e6 * seconds, abs=1e6 / rate)


def test_throughput_times_mean_latency_is_the_number_of_busy_connections():
    one_after_the_other = sample([0, 10, 20, 30], [10, 10, 10, 10])
    assert one_after_the_other.throughput == pytest.approx(100)
    assert one_after_the_other.concurrency == pytest.approx(1)
    two_at_once = sample([0, 0, 10, 10], [10, 10, 10, 10])
    assert two_at_once.concurrency == pytest.approx(2)


def test_percentiles_are_those_of_every_latency():
    latencies = sample(list(range(101)), list(range(101)))
    assert [latencies.milliseconds(p) for p in (50, 99, 100)] == [50, 99, 100]
