"""A small comparison with round figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.peer import EMPTY, FASTAPI, FLOOR, SERVICE, Peer
from benchmarks.results import (
    Comparison,
    Load,
    Machine,
    Memory,
    PeerResult,
    Round,
    ServedModel,
    Soak,
    SoakWindow,
    Start,
)
from benchmarks.settings import BenchmarkSettings

SETTINGS = BenchmarkSettings.load(Path(__file__).resolve().parents[2] / "configs" / "benchmarks.yaml")

MACHINE = Machine(
    processor="a processor", cores=2, memory_gb=8.0, system="Linux 6", python="3.11.7",
    load_generator="load by a generator", load_average=0.0,
)  # fmt: skip

MODEL = ServedModel(digest="d", trees=100, leaves=8, features=128, application_bytes=3158, application_fields=120)


def soak_window(memory_mb: float, p99_ms: float) -> SoakWindow:
    """A minute at 2,000 requests per second."""
    return SoakWindow(
        requests=120_000, errors=0, seconds=60.0, p50_ms=1.0, p99_ms=p99_ms, longest_ms=9.0, cpu_us=200.0,
        memory_mb=memory_mb,
    )  # fmt: skip


SOAK = Soak(
    saturation=4000.0,
    arrivals=2000.0,
    windows=(soak_window(100.0, 2.0), soak_window(100.5, 3.0), soak_window(101.0, 2.2)),
)


def load(cpu_us: float, *, connections: int = 1, applications: int = 1, concurrency: float | None = None) -> Load:
    """A window whose throughput is what one busy core allows."""
    return Load(
        connections=connections,
        applications=applications,
        seconds=6.0,
        requests=6000,
        errors=0,
        throughput=1e6 / cpu_us,
        p50_ms=cpu_us / 1000,
        p99_ms=cpu_us / 500,
        longest_ms=cpu_us / 100,
        cpu_us=cpu_us,
        concurrency=connections if concurrency is None else concurrency,
    )


def measured(cpu_us: float, *, ready: float = 2.0, worker: float = 100.0, load_ms: float | None = None) -> Round:
    """A round of a peer that needs `cpu_us` for a request, and a tenth of it for an application in a batch."""
    return Round(
        start=Start(ready=ready, answered=ready),
        memory_at_start=Memory(tree=2 * worker, worker=worker, processes=2),
        model_load_ms=load_ms,
        closed=(load(cpu_us), load(cpu_us / 2, connections=64)),
        open=load(cpu_us, connections=127),
        batches=(load(cpu_us / 10, applications=100),),
    )


def peer_result(peer: Peer, *rounds: Round) -> PeerResult:
    """The rounds of a peer."""
    return PeerResult(name=peer.name, title=peer.title, packages={"numpy": "2.4.6"}, rounds=rounds)


def comparison(*peers: PeerResult) -> Comparison:
    """A comparison of these peers."""
    return Comparison(
        measured_at="2026-11-22T16:00:00+00:00",
        commit=None,
        command="python -m benchmarks run",
        machine=MACHINE,
        model=MODEL,
        settings=SETTINGS.model_dump(mode="json"),
        peers=peers,
    )


def empty_round(*, ready: float = 2.0, worker: float = 80.0) -> Round:
    """A round of a service without a model."""
    round_ = measured(1.0, ready=ready, worker=worker)
    return replace(round_, start=Start(ready=ready, answered=None), closed=(), open=None, batches=())


COMPARISON = comparison(
    peer_result(SERVICE, measured(400.0, ready=2.2, load_ms=50.0), measured(440.0, ready=2.2, load_ms=60.0)),
    peer_result(FLOOR, measured(200.0), measured(200.0)),
    peer_result(FASTAPI, measured(500.0), measured(400.0)),
    peer_result(EMPTY, empty_round(), empty_round()),
)
