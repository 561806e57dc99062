"""What a comparison measured, and the JSON it is kept as."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from benchmarks.errors import BenchmarkError
from jobs.output import write_bytes, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    load_generator: str
    load_average: float
    """Of the minute before the first measurement: what else was running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What every peer serves, and the requests that it answers.

    Attributes
    ----------
    application_bytes : of the body of a single request in this service's contract, on average
    applications : how many different ones are asked about, one after the other
    """

    digest: str
    trees: int
    leaves: int
    features: int
    application_bytes: int
    application_fields: int
    applications: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One window of load.

    Attributes
    ----------
    applications : in one request
    throughput : answers per second
    cpu_us : CPU time of the server's whole process tree per application, microseconds
    concurrency : throughput x mean latency; by Little's law the requests under way on average, in a closed loop one for
        each connection
    errors : answers other than 2xx, and requests without an answer
    held_back : arrivals of an open loop that found no free connection
    late_ms : 99th percentile of how late the requests of an open loop were sent, which their latency includes
    generator_cores : which part of a core the load generator took
    """

    connections: int
    applications: int
    seconds: float
    requests: int
    errors: int
    throughput: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_us: float
    concurrency: float
    held_back: int = 0
    late_ms: float = 0.0
    generator_cores: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Seconds from starting the command."""

    ready: float
    answered: float | None
    """First correct decision; None for a peer that makes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Megabytes of 10^6 bytes, in proportional set size: shared pages are divided among those who share them."""

    tree: float
    worker: float
    """The largest process of the tree."""
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One peer in one round."""

    start: Start
    memory_at_start: Memory
    memory_under_load: Memory | None = None
    model_load_ms: float | None = None
    closed: tuple[Load, ...] = ()
    open: Load | None = None
    batches: tuple[Load, ...] = ()
    tables: tuple[Load, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """All rounds of one peer."""

    name: str
    title: str
    packages: dict[str, str]
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakWindow:
    """A minute or so of a soak.

    Attributes
    ----------
    errors : answers other than 2xx, and requests without an answer
    cpu_us : CPU time of the server's whole process tree per request, microseconds
    memory_mb : of the worker when the window ended
    """

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_us: float
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """The service at a constant rate for long, window by window.

    `saturation` and `arrivals` are requests per second: at most, and of the soak.
    """

    saturation: float
    arrivals: float
    windows: tuple[SoakWindow, ...]

    @property
    def requests(self) -> int:
        """Of all windows."""
        return sum(window.requests for window in self.windows)

    @property
    def errors(self) -> int:
        """Of all windows."""
        return sum(window.errors for window in self.windows)

    @property
    def seconds(self) -> float:
        """Of all windows."""
        return sum(window.seconds for window in self.windows)

    @property
    def growth(self) -> float:
        """Share by which the worker's memory grew after the first window."""
        return self.windows[-1].memory_mb / self.windows[0].memory_mb - 1

    @property
    def p99_change(self) -> float:
        """The median p99 of the last third of the windows, as a multiple of that of the first third."""
        third = max(1, len(self.windows) // 3)
        return self._p99_ms(self.windows[-third:]) / self._p99_ms(self.windows[:third])

    @property
    def p99_ms(self) -> float:
        """Median over all windows."""
        return self._p99_ms(self.windows)

    @staticmethod
    def _p99_ms(windows: Sequence[SoakWindow]) -> float:
        return median(window.p99_ms for window in windows)


def record(output: Path, command: str, **figures: Any) -> None:
    """Write figures as JSON, with the command that measured them, when, and on how many and how busy cores."""
    circumstances = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
    }
    write_json(output, circumstances | figures, indent=2)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """When, where, with what settings and which commit something was measured."""

    measured_at: str
    commit: str | None
    command: str
    machine: Machine
    model: ServedModel
    settings: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write this as JSON; the file appears whole or not at all."""
        write_bytes(path, to_json(asdict(self), indent=2) + b"\n", parents=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What was written to `path`; BenchmarkError if that is something else."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except OSError as error:
            raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"])) or "file"
            raise BenchmarkError(f"{path}: not results of this program ({place})") from None


@dataclass(frozen=True, kw_only=True)
class Comparison(Recorded):
    """The results of `python -m benchmarks run`."""

    peers: tuple[PeerResult, ...]


@dataclass(frozen=True, kw_only=True)
class SoakRecord(Recorded):
    """The results of `python -m benchmarks soak`."""

    soak: Soak
