"""What runs beside the requests goes on after an error, and what cannot be told is left out and counted."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from decision_log.errors import NotRecordedError
from decision_log.writer import Segment
from scoring.store import StoredModel
from tests.monitoring.recording import Worker, settings

SECONDS = 30


def until(done: Callable[[], bool]) -> None:
    """Wait; the limit is far beyond what it takes."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def worker(small: StoredModel, tmp_path: Path) -> Worker:
    small_segments = settings(log={"segment_bytes": 65_536})
    return Worker(small, tmp_path / "counts", tmp_path / "log", small_segments)


def failures(worker: Worker, thread: str) -> float:
    return worker.value("thread_failures_total", thread=thread) or 0


def counts(worker: Worker, tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "counts").iterdir()
    return folder


def test_the_thread_of_the_log_goes_on(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is no OSError is planted where it allocates; lines go on while there is room."""
    allocate, planted = Segment.allocate.__func__, threading.Event()  # type: ignore[attr-defined]

    def broken(cls: type[Segment], *arguments: object) -> Segment:
        if not planted.is_set():
            planted.set()
            raise RuntimeError
        return allocate(cls, *arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(Segment, "allocate", classmethod(broken))
    while not planted.is_set():
        worker.record(10)
    until(lambda: failures(worker, "decision-log") == 1)
    before = worker.value("thread_heartbeat_timestamp_seconds", thread="decision-log") or 0
    until(lambda: (worker.value("thread_heartbeat_timestamp_seconds", thread="decision-log") or 0) > before)
    worker.record(100)
    worker.recorder.close()
    assert failures(worker, "decision-log") == 1


def test_the_judging_of_windows_goes_on(small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings({"window": {"rows": 1000, "seconds": 1e9, "at_least_seconds": 0}})
    worker = Worker(small, tmp_path / "counts", None, chosen)
    windows = worker.recorder._windows
    complete, planted = windows.complete, threading.Event()

    def broken(now: float) -> None:
        if not planted.is_set():
            planted.set()
            raise RuntimeError
        complete(now)

    monkeypatch.setattr(windows, "complete", broken)
    worker.record(1000)

    def judged() -> bool:
        worker.recorder.publish()
        return "drift_psi" in worker.gauges()

    until(judged)
    assert failures(worker, "drift") == 1
    worker.recorder.close()


def test_a_gauge_that_cannot_be_had_is_left_out(worker: Worker, tmp_path: Path) -> None:
    worker.record(3)
    worker.recorder.publish()
    assert {"default_rate", "decision_log_segment_age_seconds"} <= set(worker.gauges())
    host = next((tmp_path / "log" / "open").iterdir()).name.split("-")[1]
    (tmp_path / "log" / "open" / f"20260101T000000000000Z-{host}-1-0.jsonl").mkdir()
    told = worker.gauges()
    assert {"model_info", "default_rate"} <= set(told)
    worker.recorder.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"last": null}', b"[" * 9_000, b"0" * 9_000])
def test_a_broken_state_of_windows_is_begun_anew(small: StoredModel, tmp_path: Path, content: bytes) -> None:
    chosen = settings({"window": {"rows": 1000, "seconds": 1e9, "at_least_seconds": 0}})
    worker = Worker(small, tmp_path / "counts", None, chosen)
    (counts(worker, tmp_path) / "window.json").write_bytes(content)
    assert worker.recorder.drift()["window"] is None
    worker.record(1000)

    def judged() -> bool:
        worker.recorder.publish()
        return worker.recorder.drift()["window"] is not None

    until(judged)
    assert worker.recorder.drift()["window"]["rows"] == 1000
    assert failures(worker, "drift") == 0
    worker.recorder.close()


@pytest.mark.parametrize("kind", ["short", "long", "folder"])
def test_counts_of_nobody_are_passed_over(small: StoredModel, tmp_path: Path, kind: str) -> None:
    worker = Worker(small, tmp_path / "counts")
    worker.record(5)
    worker.recorder.publish()
    folder = counts(worker, tmp_path)
    foreign = folder / "20260101T000000000000Z-host-1.counts"
    if kind == "folder":
        foreign.mkdir()
    else:
        foreign.write_bytes(b"\xff" * (10 if kind == "short" else 1_000_000))
    assert worker.recorder.drift()["rows"] == 5
    assert "default_rate" in worker.gauges()
    worker.recorder.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, if this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, worker: Worker) -> None:
    """Leave no room on the disk, nor in the segments that are allocated."""
    with (disk / "ballast").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"-" * 512)
    with suppress(NotRecordedError):
        worker.record(100)


def test_a_recorder_that_refuses_says_so_as_long_as_it_does(
    small: StoredModel, tmp_path: Path, small_disk: Path
) -> None:
    worker = Worker(small, tmp_path / "counts", small_disk, settings(log={"segment_bytes": 65_536}))
    assert worker.recorder.fault() is None

    def refused() -> bool:
        fill(small_disk, worker)
        return worker.recorder.fault() is not None

    until(refused)
    assert worker.recorder.fault() == "the decision log cannot be written (no_space)"
    for path in (small_disk / "ballast", *(small_disk / "open").iterdir()):
        path.unlink(missing_ok=True)
    until(lambda: worker.recorder.fault() is None)
    worker.record(1)
    worker.recorder.close()


def test_a_recorder_that_drops_lines_goes_on_being_ready(small: StoredModel, tmp_path: Path, small_disk: Path) -> None:
    dropping = settings(log={"segment_bytes": 65_536, "on_failure": "drop"})
    worker = Worker(small, tmp_path / "counts", small_disk, dropping)
    for _ in range(20):
        worker.record(100)
    assert worker.value("decision_log_failures_total", reason="no_space")
    assert worker.recorder.fault() is None
    worker.recorder.close()
