"""Threads that go on, and say so."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from jobs import heartbeat
from jobs.heartbeat import Heartbeat, PeriodicThread

SECRET = "an applicant's income"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def beat(registry: CollectorRegistry, thread: str = "worm") -> float:
    found = registry.get_sample_value("credit_scoring_thread_heartbeat_timestamp_seconds", {"thread": thread})
    assert found is not None
    return found


def failures(registry: CollectorRegistry, thread: str = "worm") -> float:
    found = registry.get_sample_value("credit_scoring_thread_failures_total", {"thread": thread})
    assert found is not None
    return found


class Worker:
    """Fails the first so many times."""

    def __init__(self, failing: int) -> None:
        self.failing = failing
        self.turns = 0
        self.done = threading.Event()

    def work(self) -> None:
        self.turns += 1
        if self.turns <= self.failing:
            raise RuntimeError(SECRET)
        self.done.set()


def test_a_thread_goes_on_after_what_its_work_raises(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(failing=3)
    thread = PeriodicThread(Heartbeat("worm", registry=registry), worker.work, 0.001, name="worm")
    assert worker.done.wait(60)
    thread.stop()
    assert failures(registry) == 3
    assert [record.getMessage() for record in caplog.records] == ["the thread worm goes on after RuntimeError"]
    assert SECRET not in caplog.text


def test_a_thread_beats_when_its_work_is_done(registry: CollectorRegistry) -> None:
    worker, before = Worker(failing=0), time.time()
    thread = PeriodicThread(Heartbeat("worm", registry=registry), worker.work, 0.001, name="worm")
    while worker.turns < 2:
        pass
    first = beat(registry)
    while beat(registry) <= first:  # the time limit of the test ends this
        pass
    thread.stop()
    assert before <= first


def test_a_thread_beats_in_a_long_pause(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_LONGEST_PAUSE", 0.001)
    sign, worker = Heartbeat("worm", registry=registry), Worker(failing=0)
    first = beat(registry)
    thread = PeriodicThread(sign, worker.work, 3_600, name="worm")
    while beat(registry) <= first:  # the time limit of the test ends this
        pass
    thread.stop()
    assert worker.turns == 0


class Hasty(threading.Event):
    """Notes how long it is to be waited for, and does not come."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return False


@pytest.mark.parametrize(("seconds", "pauses"), [(0.5, [0.5]), (1.0, [1.0]), (2.0, [1.0, 1.0]), (2.5, [1.0, 1.0, 0.5])])
def test_a_thread_waits_for_a_second_at_most_between_two_beats(
    registry: CollectorRegistry, seconds: float, pauses: list[float]
) -> None:
    stopped = Hasty()
    assert heartbeat._stopped_within(Heartbeat("worm", registry=registry), seconds, stopped) is False
    assert stopped.pauses == pauses


def test_a_thread_whose_work_failed_does_not_beat_in_its_pause(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_LONGEST_PAUSE", 0.001)
    sign, worker = Heartbeat("worm", registry=registry), Worker(failing=1_000)
    with sign.guarded():
        raise RuntimeError(SECRET)
    last = beat(registry)
    thread = PeriodicThread(sign, worker.work, 0.01, name="worm")
    while worker.turns < 2:  # the time limit of the test ends this
        pass
    thread.stop()
    assert beat(registry) == last


def test_work_that_fails_does_not_beat(registry: CollectorRegistry) -> None:
    heartbeat = Heartbeat("worm", registry=registry)
    before = beat(registry)
    for _ in range(2):
        with heartbeat.guarded():
            raise OSError(28, "No space left on device")
    assert beat(registry) == before
    assert heartbeat.failing
    with heartbeat.guarded():
        pass
    assert beat(registry) > before
    assert not heartbeat.failing


def test_a_failure_is_told_again_after_a_success_and_where_it_is_another(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat = Heartbeat("worm", registry=registry)
    for error in (OSError(28, "No space left on device"), OSError(28, "x"), KeyError("x"), None, KeyError("x")):
        with heartbeat.guarded():
            if error is not None:
                raise error
    assert [record.getMessage() for record in caplog.records] == [
        "the thread worm goes on after OSError (No space left on device)",
        "the thread worm goes on after KeyError",
        "the thread worm goes on after KeyError",
    ]
    assert {(record.name, record.levelno) for record in caplog.records} == {("bentoml.credit_scoring", logging.ERROR)}
    assert failures(registry) == 4


def test_the_end_of_a_process_is_not_a_failure(registry: CollectorRegistry) -> None:
    with pytest.raises(SystemExit), Heartbeat("worm", registry=registry).guarded():
        raise SystemExit
    assert failures(registry) == 0


def test_what_rests_is_never_late(registry: CollectorRegistry) -> None:
    Heartbeat("worm", registry=registry).rest()
    assert beat(registry) == math.inf


def test_threads_share_the_metrics_of_a_registry(registry: CollectorRegistry) -> None:
    for name in ("worm", "snail", "worm"):
        Heartbeat(name, registry=registry)
    assert beat(registry, "snail") >= beat(registry, "worm") - 60


@pytest.mark.slow
def test_a_thread_ends_with_whose_work_it_does(registry: CollectorRegistry) -> None:
    worker = Worker(failing=0)
    PeriodicThread(Heartbeat("worm", registry=registry), worker.work, 0.001, name="a worm that ends")
    assert worker.done.wait(60)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "a worm that ends"]
    assert thread.daemon  # a process that ends does not wait for it
    del worker, thread
    while "a worm that ends" in [thread.name for thread in threading.enumerate()]:
        gc.collect()
    assert "a worm that ends" not in [thread.name for thread in threading.enumerate()]
