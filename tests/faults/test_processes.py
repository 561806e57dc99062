"""Processes that end: a worker, the service, MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.faults.conftest import Note
from tests.faults.rehearsal import Asked, assert_proven, assert_right, eventually, recording_service, under_load
from tests.server import ROOT, free_port, unmeasured
from tests.workers import workers
from training.run import Delivered


def test_a_worker_is_killed(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    with recording_service(tmp_path, delivered.tag, workers=2) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            victim = workers(server)[0]
            os.kill(victim, signal.SIGKILL)
            seconds = eventually(lambda: len(found := workers(server)) == 2 and victim not in found)
        assert not any(result.isdigit() and result != "200" for result in watch.account["requests"])
    assert_proven(tmp_path)
    note("a worker of two is killed", watch.account, two_workers_again_after=f"{seconds:.1f} s")


def test_the_only_worker_is_killed(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """The parent of the workers holds the port, so callers wait for the next one and none is refused."""
    with recording_service(tmp_path, delivered.tag) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            (victim,) = workers(server)
            os.kill(victim, signal.SIGKILL)
            seconds = eventually(lambda: watch.answered_since(watch.at + 0.1) and workers(server) not in ([], [victim]))
        sent = [one for one in watch.load.outcomes if one.sent is not None]
        longest = max(one.ended - one.sent for one in sent if one.answered and one.sent)
    assert_proven(tmp_path)
    note(
        "the only worker is killed",
        watch.account,
        answered_again_after=f"{seconds:.1f} s",
        longest_answer=f"{longest:.1f} s",
    )


def test_a_pod_is_stopped(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    with recording_service(tmp_path, delivered.tag) as server, under_load(server, asked, tmp_path / "log") as watch:
        watch.strike()
        server.process.terminate()
        assert server.process.wait(30) == 0
        seconds = time.monotonic() - watch.at
    before = [one for one in watch.load.outcomes if one.sent is not None and one.sent < watch.at]
    assert all(one.answered for one in before)
    begun = time.monotonic()
    with recording_service(tmp_path, delivered.tag) as server:
        ready = time.monotonic() - begun
        assert_right(server, asked)
    note(
        "the only pod gets SIGTERM, another is started",
        watch.account,
        sent_before_and_not_answered=0,
        stopped_after=f"{seconds:.1f} s",
        another_ready_after=f"{ready:.1f} s",
    )


def test_mlflow_is_down(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """The service does not ask it; what does says so in one line, and goes on when it is back."""
    port = free_port()
    environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with recording_service(tmp_path, delivered.tag, workers=2, environment=environment) as server:
        with _mlflow(tmp_path, port) as mlflow, under_load(server, asked, tmp_path / "log") as watch:
            assert _listed(environment).returncode == 0
            watch.strike()
            os.killpg(mlflow.pid, signal.SIGKILL)
            mlflow.wait()
            begun = time.monotonic()
            refused = _listed(environment)
            seconds = time.monotonic() - begun
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert set(watch.account["requests"]) == {"200"}
        with _mlflow(tmp_path, port):
            assert _listed(environment).returncode == 0
    note("MLflow is killed", watch.account, training_commands_refuse_after=f"{seconds:.1f} s")


@contextmanager
def _mlflow(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server on loopback, ready."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "mlflow.log").open("a") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, process_group=0)
    try:
        eventually(lambda: _is_up(port))
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.TransportError:
        return False


def _listed(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "list"]
    variables = {**unmeasured(), **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
