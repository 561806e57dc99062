"""Putting load on a server with h2load, in a closed and in an open loop.

h2load writes one line for each request, so percentiles are taken from every latency and nothing is corrected.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError

_H2LOAD = "h2load"
_PATIENCE = 10  # times as long as a window should take
_PRIMES = (127, 61, 31, 17, 7, 3)
_SUMMARY = re.compile(r"^requests: .* (\d+) failed, \d+ errored, \d+ timeout$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """A request that can be sent again and again."""

    url: str
    body: Path
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What was seen from outside.

    Attributes
    ----------
    starts, latencies : int64, shape (n,), microseconds; one for each answer
    failed : answers other than 2xx, and requests without an answer
    """

    starts: NDArray[np.int64]
    latencies: NDArray[np.int64]
    failed: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return float((self.starts + self.latencies).max() - self.starts.min()) / 1e6

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return len(self) / self.seconds

    @property
    def concurrency(self) -> float:
        """Requests under way on average: by Little's law, throughput x mean latency."""
        return self.throughput * float(self.latencies.mean()) / 1e6

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the latencies."""
        return float(np.percentile(self.latencies, percentile)) / 1e3

    def between(self, first: float, last: float) -> Sample:
        """The requests sent so many seconds after the first one."""
        since = (self.starts - self.starts.min()) / 1e6
        kept = (since >= first) & (since <= last)
        return Sample(self.starts[kept], self.latencies[kept], self.failed)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Evenly spaced arrivals at a constant rate, spread over connections that each have a slower beat.

    A connection opens every `opening_ms` milliseconds and then sends a request every `connections / rate` seconds. The
    opening takes `turns` arrivals and the number of connections is a prime, so their beats interleave into one even
    series: an arrival waits for no answer unless that answer takes longer than a whole beat.
    """

    turns: int
    opening_ms: int
    connections: int
    seconds: float

    @property
    def rate(self) -> float:
        """Arrivals per second."""
        return 1000 * self.turns / self.opening_ms

    @property
    def beat(self) -> float:
        """Seconds between two requests of a connection."""
        return self.connections / self.rate

    @property
    def opening(self) -> float:
        """Seconds until every connection is open."""
        return self.connections * self.opening_ms / 1000

    @property
    def requests(self) -> int:
        """Of all connections, so that the full rate lasts for `seconds` after the opening."""
        return self.connections * (math.ceil((self.opening + self.seconds) / self.beat) + 1)


def arrivals(rate: float, *, seconds: float, connections: int) -> Arrivals:
    """Arrivals as near to `rate` as whole milliseconds allow.

    >>> even = arrivals(1530, seconds=6, connections=127)
    >>> even.rate, even.connections, round(even.beat, 3)
    (1500.0, 127, 0.085)
    """
    opening_ms = 10 if rate >= 100 else round(1000 / rate)
    turns = max(1, round(rate * opening_ms / 1000))
    allowed = [prime for prime in _PRIMES if prime <= min(connections, rate * seconds / 2) and turns % prime]
    return Arrivals(turns, opening_ms, max(allowed, default=_PRIMES[-1]), seconds)


def version() -> str:
    """Name and version of the load generator; BenchmarkError where it is not installed."""
    if shutil.which(_H2LOAD) is None:
        raise BenchmarkError("h2load is not installed; Debian has it in nghttp2-client")
    return subprocess.run([_H2LOAD, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def closed_loop(target: Target, *, connections: int, seconds: float) -> Sample:
    """Every connection sends its next request when its last is answered; what is under way at the end is dropped."""
    options = [f"--clients={connections}", f"--duration={round(1000 * seconds)}ms"]
    return _loaded(target, options, limit=_PATIENCE * seconds)


def counted(target: Target, *, connections: int, requests: int, limit: float) -> Sample:
    """A closed loop of so many requests, all of them answered within `limit` seconds."""
    return _loaded(target, [f"--clients={connections}", f"--requests={requests}"], limit=limit)


def open_loop(target: Target, plan: Arrivals) -> Sample:
    """Requests that arrive at their time, whether or not earlier ones are answered; those of the full rate only."""
    options = [
        f"--clients={plan.connections}",
        f"--requests={plan.requests}",
        "--rate=1",
        f"--rate-period={plan.opening_ms}ms",
        f"--rps={plan.rate / plan.connections:.6f}",
    ]
    sample = _loaded(target, options, limit=_PATIENCE * (plan.opening + plan.seconds))
    return sample.between(plan.opening, plan.opening + plan.seconds)


def held_back(sample: Sample, plan: Arrivals) -> int:
    """How many requests were still without an answer when the next one of their connection was due."""
    return int(np.count_nonzero(sample.latencies > plan.beat * 1e6))


def _loaded(target: Target, options: list[str], *, limit: float) -> Sample:
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "requests.tsv"
        printed = _run([_H2LOAD, "--h1", "--threads=1", *options, f"--log-file={log}", *_request(target)], limit)
        rows = np.fromfile(log, dtype=np.int64, sep=" ").reshape(-1, 3)
    summary = _SUMMARY.search(printed)
    if summary is None or not len(rows):
        raise BenchmarkError(f"{target.url}: no request was answered")
    return Sample(rows[:, 0], rows[:, 2], int(summary[1]))


def _request(target: Target) -> list[str]:
    headers = [f"--header={header}" for header in ("Content-Type: application/json", *target.headers)]
    return [f"--data={target.body}", *headers, target.url]


def _run(command: list[str], limit: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit)
    except subprocess.CalledProcessError as error:
        raise BenchmarkError(f"h2load failed: {error.stderr.strip()}") from None
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"h2load had no end after {limit:.0f} s") from None
    return done.stdout
