"""How long the reports of monitoring take, and in how much memory, as the decisions become more."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.decisions import OUTCOMES, Pool, generate
from benchmarks.errors import BenchmarkError
from benchmarks.results import record
from decision_log.format import ClientHash
from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.scorer import Scorer

_KEY = "DECISION_LOG_KEY"
_ALARM = 3


@dataclass(frozen=True, slots=True)
class Report:
    """One command on so many decisions."""

    command: str
    decisions: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    microseconds_per_decision: float


def measure_reports(
    artefact: Path, applications: Path, counts: Sequence[int], scratch: Path, *, seed: int, progress: Progress
) -> list[Report]:
    """Drift and performance of so many generated decisions each; what is generated is removed again."""
    key = secrets.token_hex(32)
    reports = []
    for count in counts:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="decisions-") as folder:
            log = Path(folder) / "log"
            with progress.step(f"{count:,} decisions"):
                _apart(_generate, log, artefact, applications, count, key, seed)
            common = ["--log", str(log), "--model", str(artefact)]
            reports.append(_measured(["drift", *common], count, key))
            reports.append(_measured(["performance", *common, "--outcomes", str(log / OUTCOMES)], count, key))
            for report in reports[-2:]:
                progress.line(f"{report.command}: {report.seconds:.1f} s, {report.peak_memory_mb:.0f} MB")
    return reports


def _generate(log: Path, artefact: Path, applications: Path, count: int, key: str, seed: int) -> None:
    pool = Pool.of(Scorer(Artefact.read(artefact)), applications)
    generate(log, pool, rows=count, client_hash=ClientHash(bytes.fromhex(key)), seed=seed)


def _apart(function: Callable[..., None], *arguments: object) -> None:
    """Run it in a process of its own: a child begins with the peak memory of who starts it."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise BenchmarkError(f"generating decisions ended with {process.exitcode}")


def _measured(arguments: Sequence[str], count: int, key: str) -> Report:
    started = time.monotonic()
    command = [sys.executable, "-m", "monitoring", *arguments]
    with subprocess.Popen(command, env={**os.environ, _KEY: key}, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, _ALARM):
        raise BenchmarkError(f"python -m monitoring {arguments[0]} ended with {process.returncode}")
    seconds = time.monotonic() - started
    return Report(
        command=arguments[0],
        decisions=count,
        seconds=round(seconds, 2),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 2),
        peak_memory_mb=round(used.ru_maxrss / 1e3, 1),
        microseconds_per_decision=round(1e6 * seconds / count, 3),
    )


def record_reports(reports: Sequence[Report], command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(output, command, reports=[asdict(report) for report in reports])
