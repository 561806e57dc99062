"""Files that fail: a decision log without room, read-only or slow, a damaged model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Note
from tests.faults.rehearsal import (
    SETTLE_SECONDS,
    Asked,
    assert_proven,
    assert_right,
    eventually,
    recording_service,
    under_load,
)
from tests.workers import workers
from training.run import Delivered

_DISK = 8 << 20
_SEGMENT = 1 << 18
_DELAY_MILLISECONDS = 300


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk: `sudo make faults`")
def test_the_disk_is_full(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """What cannot be recorded is not decided, as the settings have it, until there is room again."""
    log = tmp_path / "log"
    log.mkdir()
    recording = {"log": {"segment_bytes": _SEGMENT}}
    with _disk(log), recording_service(tmp_path, delivered.tag, recording=recording) as server:
        with under_load(server, asked, log) as watch:
            watch.strike()
            (log / "filler").write_bytes(bytes(shutil.disk_usage(log).free))
            full = eventually(watch.failing)
            failures = _failures(server.url)
            (log / "filler").unlink()
            begun = time.monotonic()
            again = eventually(lambda: watch.answered_since(begun))
        assert set(watch.account["requests"]) == {"200", "503"}
        assert failures > 0
        assert_proven(tmp_path)
        note(
            "the disk of the decision log is full",
            watch.account,
            first_refused_after=f"{full:.1f} s",
            answered_after_there_is_room=f"{again:.1f} s",
        )


traced = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("strace") is None, reason="only root can disturb a disk, by Debian's strace"
)


@traced
def test_the_disk_is_read_only(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """A file system that Linux has made read-only after an error: nothing is decided until it is writable again."""
    with recording_service(tmp_path, delivered.tag, workers=2) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            with _disturbed(workers(server), "pwrite64,fallocate", "pwrite64,fallocate:error=EROFS"):
                refused = eventually(watch.failing)
                time.sleep(SETTLE_SECONDS)
            begun = time.monotonic()
            again = eventually(lambda: watch.answered_since(begun))
        assert set(watch.account["requests"]) == {"200", "503"}
        assert_right(server, asked)
    assert_proven(tmp_path)
    note(
        "the disk of the decision log is read-only",
        watch.account,
        first_refused_after=f"{refused:.1f} s",
        answered_after_it_is_writable=f"{again:.1f} s",
    )


@traced
def test_the_disk_is_slow(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """Requests that wait for the disk's confirmation wait longer; none is refused, and none is lost."""
    recording = {"log": {"durability": "power"}}
    with recording_service(tmp_path, delivered.tag, workers=2, recording=recording) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            delay = f"fdatasync,fsync,fallocate:delay_enter={_DELAY_MILLISECONDS * 1000}"
            with _disturbed(workers(server), "fdatasync,fsync,fallocate", delay):
                begun = time.monotonic()
                eventually(lambda: watch.answered_since(begun))
                time.sleep(SETTLE_SECONDS)
        assert set(watch.account["requests"]) == {"200"}
        assert_right(server, asked)
    assert_proven(tmp_path)
    longest = max(one.ended - one.sent for one in watch.load.outcomes if one.sent is not None)
    assert longest > _DELAY_MILLISECONDS / 1000
    note(
        "the disk of the decision log is slow, with durability: power",
        watch.account,
        each_confirmation_takes=f"{_DELAY_MILLISECONDS} ms more",
        longest_answer=f"{longest:.1f} s",
    )


@contextmanager
def _disturbed(pids: Sequence[int], calls: str, how: str) -> Iterator[None]:
    """Have calls of the system by these processes fail or wait, as strace can, during the block."""
    processes = [word for pid in pids for word in ("-p", str(pid))]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={how}", *processes]
    with subprocess.Popen(command) as strace:
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)  # it lets go of the processes, which then run on as before


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A small disk in place of the folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _failures(url: str) -> float:
    """Lines that could not be written for want of room."""
    metric = 'credit_scoring_decision_log_failures_total{reason="no_space"} '
    (line,) = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(metric)]
    return float(line.removeprefix(metric))


def test_the_model_is_damaged(delivered: Delivered, asked: Asked, home: Path, tmp_path: Path, note: Note) -> None:
    """Neither a worker nor a service starts with it; the worker that runs goes on with what it has read."""
    own, other = tmp_path / "home", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    shutil.copytree(home / "models", own / "models")
    (tree,) = own.glob("models/*/*/model.txt")
    whole = tree.read_bytes()
    environment = {"BENTOML_HOME": str(own)}
    with recording_service(tmp_path, delivered.tag, workers=2, environment=environment) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            tree.write_bytes(whole.replace(b"leaf_value=", b"leaf_value=1", 1))
            os.kill(workers(server)[0], signal.SIGKILL)
            begun = time.monotonic()
            with (
                pytest.raises(RuntimeError, match=r"altered since it was written: model\.txt"),
                recording_service(other, delivered.tag, environment=environment),
            ):
                pass
            refused = time.monotonic() - begun
            assert len(workers(server)) == 1
            tree.write_bytes(whole)
            seconds = eventually(lambda: len(workers(server)) == 2)
        assert not any(result.isdigit() and result != "200" for result in watch.account["requests"])
        note(
            "the model is altered on disk, and a worker of two is killed",
            watch.account,
            another_service_refuses_to_start_after=f"{refused:.1f} s",
            two_workers_again_after_it_is_restored=f"{seconds:.1f} s",
        )
