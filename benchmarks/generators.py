"""What h2load sees of a service, and what the load generator of the comparison sees of it, window beside window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.comparison import ready
from benchmarks.errors import BenchmarkError
from benchmarks.load import Sample, Target, closed_loop, counted
from benchmarks.measurement import check, started, target
from benchmarks.peer import FLOOR
from benchmarks.process import HOST, Server
from benchmarks.request_format import DECISIONS
from benchmarks.results import Recorded
from benchmarks.settings import BenchmarkSettings
from benchmarks.store import Store
from jobs.commandline import Progress

OURS, H2LOAD = "benchmarks/load.py", "h2load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Medians over the windows of one generator, which sends the same application again and again.

    `server_us` and `generator_us` are processor time per request.
    """

    generator: str
    connections: int
    throughput: float
    p50_ms: float
    p99_ms: float
    concurrency: float
    server_us: float
    generator_us: float


@dataclass(frozen=True, kw_only=True)
class Generators(Recorded):
    """The results of `python -m benchmarks generators`."""

    seen: tuple[Seen, ...]


def compare_generators(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, windows: int, seconds: float
) -> Generators:
    """Load the bare ASGI server by both, in turn; BenchmarkError where h2load is not installed."""
    if shutil.which(H2LOAD) is None:
        raise BenchmarkError("h2load is not installed; Debian has it in nghttp2-client")
    prepared = ready(store, settings, [FLOOR], progress, command)
    bench = prepared.bench
    seen: list[Seen] = []
    with started(bench, FLOOR, prepared.environments[FLOOR.name]) as server:
        one = bench.workload.first(1)
        check(bench, FLOOR, DECISIONS, server, one)
        same = Target(HOST, server.port, target(bench, FLOOR, DECISIONS, server).requests[:1])
        body = DECISIONS.encode(one.applications)
        for connections in settings.connections:
            with progress.step(f"{connections} connections"):
                counted(same, connections=connections, requests=settings.warm_up_requests, limit=seconds * 100)
                seen += _side_by_side(server, same, body, connections, windows, seconds)
    return Generators(**prepared.provenance, seen=tuple(seen))


def _side_by_side(
    server: Server, same: Target, body: bytes, connections: int, windows: int, seconds: float
) -> Iterator[Seen]:
    found: dict[str, list[tuple[Sample, float]]] = {OURS: [], H2LOAD: []}
    for _ in range(windows):
        for name, samples in found.items():
            before = server.cpu_seconds()
            if name == OURS:
                sample = closed_loop(same, connections=connections, seconds=seconds)
            else:
                sample = _h2load(same, body, connections, seconds)
            samples.append((sample, server.cpu_seconds() - before))
    for name, samples in found.items():
        yield Seen(
            generator=name,
            connections=connections,
            throughput=round(median(sample.throughput for sample, _ in samples), 1),
            p50_ms=round(median(sample.milliseconds(50) for sample, _ in samples), 3),
            p99_ms=round(median(sample.milliseconds(99) for sample, _ in samples), 3),
            concurrency=round(median(sample.concurrency for sample, _ in samples), 2),
            server_us=round(median(1e6 * cpu / len(sample) for sample, cpu in samples), 1),
            generator_us=round(median(1e6 * sample.cpu_seconds / len(sample) for sample, _ in samples), 1),
        )


def _h2load(same: Target, body: bytes, connections: int, seconds: float) -> Sample:
    """The same closed loop by h2load, which writes a line for each request."""
    with tempfile.TemporaryDirectory() as scratch:
        content, log = Path(scratch) / "body", Path(scratch) / "requests.tsv"
        content.write_bytes(body)
        options = [f"--clients={connections}", f"--duration={round(1000 * seconds)}ms", "--threads=1", "--h1"]
        request = [f"--data={content}", "--header=Content-Type: application/json"]
        before = _children()
        subprocess.run(
            [H2LOAD, *options, *request, f"--log-file={log}", f"http://{same.host}:{same.port}{DECISIONS.single}"],
            capture_output=True,
            check=True,
        )
        rows = np.fromfile(log, dtype=np.int64, sep=" ").reshape(-1, 3)
        return Sample(rows[:, 0], rows[:, 2], int((rows[:, 1] // 100 != 2).sum()), cpu_seconds=_children() - before)


def _children() -> float:
    """Processor time of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system
