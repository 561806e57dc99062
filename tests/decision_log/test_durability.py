"""Durability: what a record survives, and who waits for the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from decision_log.durability import GroupCommit, UnconfirmedFiles
from decision_log.errors import NotRecordedError
from jobs.heartbeat import Heartbeat
from scoring.store import StoredModel
from tests.monitoring.recording import Worker, settings


def commit(flush: object, *, refuses: bool = True) -> tuple[GroupCommit, list[int]]:
    failed: list[int] = []
    heartbeat = Heartbeat("confirmations", registry=CollectorRegistry())
    return GroupCommit(flush, failed.append, heartbeat, refuses=refuses), failed  # type: ignore[arg-type]


def test_all_who_wait_share_one_confirmation() -> None:
    entered, go, flushes = threading.Semaphore(0), threading.Semaphore(0), [0]

    def flush() -> None:
        flushes[0] += 1
        entered.release()
        go.acquire()

    group, failed = commit(flush)
    first = group.confirmed()
    entered.acquire()
    others = [group.confirmed() for _ in range(50)]
    assert not first.done()
    go.release()
    first.result(60)
    assert not any(one.done() for one in others)
    go.release()
    assert [one.result(60) for one in others] == [None] * 50
    assert (flushes, failed) == ([2], [])
    group.close()


def refused() -> None:
    """The disk refuses, as it does for a pipe."""
    reader, writer = os.pipe()
    try:
        os.fdatasync(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_request_whose_line_is_not_confirmed_fails_and_is_counted() -> None:
    group, failed = commit(refused)
    with pytest.raises(NotRecordedError, match=r"^the disk did not confirm the line$"):
        group.confirmed().result(60)
    group.close()
    assert failed == [1]


def test_where_lines_may_be_dropped_it_is_answered_and_counted() -> None:
    group, failed = commit(refused, refuses=False)
    group.confirmed().result(60)
    group.close()
    assert failed == [1]


def test_a_caller_who_went_away_does_not_stop_the_thread() -> None:
    entered, go = threading.Semaphore(0), threading.Semaphore(0)

    def flush() -> None:
        entered.release()
        go.acquire()

    group, _ = commit(flush)
    first = group.confirmed()
    entered.acquire()
    gone, stays = group.confirmed(), group.confirmed()
    assert gone.cancel()
    go.release()
    go.release()
    first.result(60)
    stays.result(60)
    group.close()


def test_a_file_is_flushed_once_though_its_segment_was_finished(tmp_path: Path) -> None:
    files, descriptor = UnconfirmedFiles(), os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT)
    files.add(0, descriptor)
    files.add(0, descriptor)
    os.close(descriptor)
    held = len(list(Path("/proc/self/fd").iterdir()))
    files.flush()
    assert len(list(Path("/proc/self/fd").iterdir())) == held - 1
    files.flush()


def test_with_power_a_decision_waits_for_the_disk(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", settings(log={"durability": "power"}))
    worker.record(3)
    waiting = worker.recorder.confirmed()
    assert waiting is not None
    waiting.result(60)
    assert worker.value("decision_log_failures_total", reason="unconfirmed") == 0
    worker.recorder.close()


@pytest.mark.parametrize("durability", ["process", "none"])
def test_otherwise_nobody_waits(small: StoredModel, tmp_path: Path, durability: str) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", settings(log={"durability": durability}))
    worker.record(3)
    assert worker.recorder.confirmed() is None
    worker.recorder.close()


@pytest.mark.parametrize(
    ("durability", "on_failure", "refuses"),
    [("process", "refuse", True), ("power", "refuse", True), ("none", "refuse", False), ("process", "drop", False)],
)
def test_with_none_nothing_is_refused(durability: str, on_failure: str, refuses: bool) -> None:
    log = settings(log={"durability": durability, "on_failure": on_failure}).recording.log
    assert log.refuses is refuses
