"""The service at half of saturation for long enough that memory would grow and rare failures would show."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.comparison import Prepared, ready
from benchmarks.load import Arrivals, Target, closed_loop, open_loop
from benchmarks.measurement import check, started, target
from benchmarks.peer import SERVICE, Peer
from benchmarks.process import Server
from benchmarks.request_format import DECISIONS
from benchmarks.results import Soak, SoakRecord, SoakWindow
from benchmarks.settings import BenchmarkSettings
from benchmarks.store import Store
from jobs.commandline import Progress
from scoring.keys import KEYS_VARIABLE, Scope, create_key, issue

_NO_LIMIT = 1e9


def soak(store: Store, settings: BenchmarkSettings, progress: Progress, command: str) -> SoakRecord:
    """Load the service as it is deployed, with API keys, drift counts and the decision log, window by window."""
    prepared = ready(store, settings, [SERVICE], progress, command)
    log, keys = store.folder / "decisions", store.folder / "keys.yaml"
    keys.unlink(missing_ok=True)
    issued = issue("soak", (Scope.PREDICT,), created=datetime.now(UTC), requests_per_second=_NO_LIMIT)
    create_key(keys, issued)
    variables = {KEYS_VARIABLE: str(keys), "DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": secrets.token_hex(32)}
    bench = replace(prepared.bench, variables={**prepared.bench.variables, **variables})
    peer = replace(SERVICE, headers=(f"X-API-Key: {issued.secret}",))
    try:
        return SoakRecord(**prepared.provenance, soak=_soak(replace(prepared, bench=bench), peer, settings, progress))
    finally:
        shutil.rmtree(log, ignore_errors=True)


def _soak(prepared: Prepared, peer: Peer, settings: BenchmarkSettings, progress: Progress) -> Soak:
    bench, plan = prepared.bench, settings.soak
    with started(bench, peer, prepared.environments[peer.name]) as server:
        check(bench, peer, DECISIONS, server, bench.workload.first(1))
        singles, chosen = target(bench, peer, DECISIONS, server), settings.open_loop
        with progress.step("saturation"):
            most = closed_loop(singles, connections=plan.saturation_connections, seconds=settings.seconds)
        beat = Arrivals(chosen.saturation * most.throughput, plan.window_seconds, chosen.connections)
        windows = []
        for number in range(1, plan.windows + 1):
            with progress.step(f"window {number} of {plan.windows}, {beat.rate:,.0f} requests per second"):
                windows.append(_window(server, singles, beat))
    return Soak(saturation=most.throughput, arrivals=beat.rate, windows=tuple(windows))


def _window(server: Server, singles: Target, beat: Arrivals) -> SoakWindow:
    before = server.cpu_seconds()
    sample = open_loop(singles, beat)
    cpu = server.cpu_seconds() - before
    return SoakWindow(
        requests=len(sample),
        errors=sample.failed,
        seconds=sample.seconds,
        p50_ms=sample.milliseconds(50),
        p99_ms=sample.milliseconds(99),
        longest_ms=sample.milliseconds(100),
        cpu_us=cpu * 1e6 / beat.requests,
        memory_mb=server.memory().worker,
    )
