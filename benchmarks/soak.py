"""The service at saturation for long enough that memory would grow and rare failures would show."""

from __future__ import annotations

from scoring import Progress

from .comparison import Prepared, ready
from .load import Sample, counted
from .measurement import check, started, target
from .peer import SERVICE
from .request_format import DECISIONS
from .results import Soak, SoakRecord
from .settings import BenchmarkSettings
from .store import Store

_SLOWEST_RATE = 50  # requests per second below which a soak is given up


def soak(store: Store, settings: BenchmarkSettings, progress: Progress, command: str) -> SoakRecord:
    """Send the configured number of requests, and read the worker's memory after the first of them and at the end."""
    prepared = ready(store, settings, [SERVICE], progress, command)
    return SoakRecord(**prepared.provenance, soak=_soak(prepared, settings, progress))


def _soak(prepared: Prepared, settings: BenchmarkSettings, progress: Progress) -> Soak:
    bench, plan = prepared.bench, settings.soak
    share = -(-plan.requests // len(plan.connections))
    with started(bench, SERVICE, prepared.environments[SERVICE.name]) as server:
        check(bench, SERVICE, DECISIONS, server, sizes=(1,))
        single = target(bench, SERVICE, DECISIONS, server, 1)

        def send(connections: int, requests: int) -> Sample:
            return counted(single, connections=connections, requests=requests, limit=requests / _SLOWEST_RATE)

        send(max(plan.connections), plan.warm_up_requests)
        before = server.memory()
        samples = []
        for connections in plan.connections:
            with progress.step(f"{share} requests over {connections} connections"):
                samples.append(send(connections, share))
        after = server.memory()
    return Soak(
        requests=sum(map(len, samples)),
        errors=sum(sample.failed for sample in samples),
        seconds=sum(sample.seconds for sample in samples),
        memory_before_mb=before.worker,
        memory_after_mb=after.worker,
    )
