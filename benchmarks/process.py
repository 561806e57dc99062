"""Process trees: a server that is started, waited for, read and stopped, and a job that runs to its end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.results import Memory

HOST = "127.0.0.1"
_POLL_SECONDS = 0.01
_SAMPLE_SECONDS = 0.5
_WATCH_SECONDS = 0.1
_QUIET_CORES = 0.05  # above its idle CPU, a server is still working on what it was asked
_TAIL = 400


@dataclass(frozen=True)
class Server:
    """A server that answers, with every process it has started."""

    root: psutil.Process
    port: int
    started: float
    """time.perf_counter() before the command was run."""
    ready_seconds: float

    def processes(self) -> list[psutil.Process]:
        """The process that was started and all its descendants."""
        return [self.root, *self.root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """CPU time of the whole tree so far, user and system, that of children which have ended included."""
        return sum(_cpu_seconds(process) for process in self.processes())

    def memory(self) -> Memory:
        """What the tree and its largest process hold."""
        sizes = [size for size in map(_proportional_megabytes, self.processes()) if size > 0]
        return Memory(tree=sum(sizes), worker=max(sizes), processes=len(sizes))

    def cores(self) -> float:
        """How many cores the tree keeps busy now."""
        before = self.cpu_seconds()
        time.sleep(_SAMPLE_SECONDS)
        return (self.cpu_seconds() - before) / _SAMPLE_SECONDS

    def wait_until_quiet(self, *, idle: float, limit: float) -> None:
        """Return when the tree keeps hardly more than `idle` cores busy, or after `limit` seconds."""
        deadline = time.perf_counter() + limit
        while time.perf_counter() < deadline and self.cores() > idle + _QUIET_CORES:
            pass


@contextmanager
def serving(
    command: Sequence[str],
    *,
    port: int,
    ready: str,
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
    start_limit: float,
    stop_limit: float,
) -> Iterator[Server]:
    """The server that `command` starts, from when GET `ready` answers 200; stopped at the end, whatever happens."""
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=dict(environment), stdout=output, stderr=output)
    try:
        _wait_until_ready(process, port=port, path=ready, log=log, deadline=begun + start_limit)
        yield Server(psutil.Process(process.pid), port, begun, time.perf_counter() - begun)
    finally:
        _stop(process, stop_limit)


@contextmanager
def redis_serving(port: int, *, log: Path, limit: float = 30) -> Iterator[str | None]:
    """The address of a Redis that keeps nothing on disk, from when it answers; None if no redis-server is installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    command = [program, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.perf_counter() + limit
        while _is_free(port):
            if process.poll() is not None or time.perf_counter() > deadline:
                raise BenchmarkError(f"redis-server did not become ready: {_tail(log)}")
            time.sleep(_POLL_SECONDS)
        yield f"redis://{HOST}:{port}/0"
    finally:
        _stop(process, limit)


@dataclass(frozen=True, slots=True)
class JobCost:
    """What a job took: wall and processor time in seconds, and the most memory of its whole tree in megabytes."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_job(command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: Path) -> JobCost:
    """Run a command to its end; BenchmarkError, with the end of what it wrote, if it fails."""
    begun, peak, spent = time.perf_counter(), 0.0, dict[int, float]()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=dict(environment), stdout=output, stderr=output)
    try:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            tree = [psutil.Process(process.pid), *_descendants(process.pid)]
            peak = max(peak, sum(map(_proportional_megabytes, tree)))
            spent |= {one.pid: max(_own_cpu_seconds(one), spent.get(one.pid, 0.0)) for one in tree}
            time.sleep(_WATCH_SECONDS)
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            _stop(process, 1)
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command[1:4])} ended with {process.returncode}: {_tail(log)}")
    # Whoever is not waited for by its parent is missing in what the kernel counts for the tree.
    cpu_seconds = max(used.ru_utime + used.ru_stime, sum(spent.values()))
    return JobCost(time.perf_counter() - begun, cpu_seconds, peak)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and neither on the three after it."""
    while True:
        with socket.socket() as first:
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
        if all(_is_free(port + i) for i in range(4)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], *, port: int, path: str, log: Path, deadline: float) -> None:
    with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as http:
        while not _answers(http, path, timeout=max(1.0, deadline - time.perf_counter())):
            if process.poll() is not None:
                raise BenchmarkError(f"the server ended with {process.returncode}: {_tail(log)}")
            if time.perf_counter() > deadline:
                raise BenchmarkError(f"the server did not become ready: {_tail(log)}")
            time.sleep(_POLL_SECONDS)


def _answers(http: httpx.Client, path: str, timeout: float) -> bool:
    try:
        return http.get(path, timeout=timeout).status_code == 200
    except httpx.RequestError:
        return False


def _stop(process: subprocess.Popen[bytes], limit: float) -> None:
    """End the tree: its root is asked to, and what is left of it after that is killed."""
    members = _descendants(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit)
    _, alive = psutil.wait_procs(members, timeout=5)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return [*psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _own_cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _proportional_megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def _tail(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-_TAIL:]
