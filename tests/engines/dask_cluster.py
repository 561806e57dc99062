"""A scheduler and workers of Dask as processes of their own, each of which is stopped by its pid."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from tests.server import ROOT, unmeasured

Process = subprocess.Popen[bytes]
_START_SECONDS = 300


@dataclass(frozen=True)
class Cluster:
    """A scheduler that answers."""

    folder: Path
    process: Process
    address: str

    @contextmanager
    def workers(
        self, count: int = 1, *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> Iterator[list[Process]]:
        """So many workers of one thread that import what is in `cwd`, from when they are connected to their end."""
        command = [
            *(sys.executable, "-m", "distributed.cli.dask_worker", self.address),
            *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"),
            *("--local-directory", str(self.folder)),
        ]
        started = [_start(self.folder / "workers.log", command, cwd, environment or {}) for _ in range(count)]
        try:
            with Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=_START_SECONDS)
            yield started
        finally:
            _end(started)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A scheduler on loopback that has nothing of the project."""
    folder.mkdir()
    told = folder / "scheduler.json"
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        *("--no-dashboard", "--scheduler-file", str(told)),
    ]
    process = _start(folder / "scheduler.log", command, folder, {})
    try:
        yield Cluster(folder, process, _address(told, process))
    finally:
        _end([process])


def _start(log: Path, command: list[str], cwd: Path, environment: Mapping[str, str]) -> Process:
    with log.open("a") as output:
        return subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output, env={**unmeasured(), **environment})


def _end(processes: list[Process]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def _address(told: Path, process: Process) -> str:
    """What the scheduler writes into its file once it listens."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return str(json.loads(told.read_text())["address"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise RuntimeError("the scheduler of Dask did not start")
