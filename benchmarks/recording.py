"""What recording decisions costs: this service with and without it, side by side in many short windows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import yaml

from scoring import Progress

from .comparison import Prepared, ready
from .load import closed_loop, counted
from .measurement import check, started, target
from .peer import SERVICE
from .process import Server
from .request_format import DECISIONS
from .results import Recorded
from .settings import BenchmarkSettings
from .store import ROOT, Store

OFF, COUNTED, LOGGED = "nothing", "metrics and drift counts", "metrics, drift counts and decision log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU time of the whole process tree per request, microseconds, window by window.

    `ratio` is the median over the windows of this to that of the window beside it in which nothing was recorded.
    """

    recorded: str
    connections: int
    windows_us: tuple[float, ...]
    median_us: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class RecordingCost(Recorded):
    """The results of `python -m benchmarks recording`."""

    costs: tuple[Cost, ...]


def recording_cost(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, windows: int, seconds: float
) -> RecordingCost:
    """Measure the service that records nothing, that counts, and that writes the decision log as well."""
    prepared = ready(store, settings, [SERVICE], progress, command)
    with ExitStack() as servers:
        running = {
            name: servers.enter_context(_running(prepared, number, variables))
            for number, (name, variables) in enumerate(_variables(store).items())
        }
        measured: dict[tuple[str, int], list[float]] = {}
        for window in range(windows):
            with progress.step(f"window {window + 1} of {windows}"):
                for connections in settings.connections:
                    for name in list(running)[:: -1 if window % 2 else 1]:
                        figure = _window(prepared, running[name], connections, seconds)
                        measured.setdefault((name, connections), []).append(figure)
    shutil.rmtree(store.folder / "decisions", ignore_errors=True)
    return RecordingCost(**prepared.provenance, costs=tuple(_costs(measured)))


def _variables(store: Store) -> dict[str, dict[str, str]]:
    """What tells the service to record so much."""
    content = yaml.safe_load((ROOT / "configs" / "monitoring.yaml").read_text(encoding="utf-8"))
    content["recording"]["enabled"] = False
    off = store.folder / "monitoring-off.yaml"
    off.write_text(yaml.safe_dump(content), encoding="utf-8")
    log = {"DECISION_LOG_DIR": str(store.folder / "decisions"), "DECISION_LOG_KEY": secrets.token_hex(32)}
    return {OFF: {"CREDIT_SCORING_MONITORING": str(off)}, COUNTED: {}, LOGGED: log}


@contextmanager
def _running(prepared: Prepared, number: int, variables: Mapping[str, str]) -> Iterator[Server]:
    """A service with a BentoML home of its own: two that share one remove each other's metrics."""
    home = prepared.bench.store.folder / f"home-{number}"
    home.mkdir(exist_ok=True)
    models = home / "models"
    if not models.is_symlink():
        models.symlink_to(Path(prepared.bench.variables["BENTOML_HOME"]) / "models")
    bench = replace(prepared.bench, variables={**prepared.bench.variables, **variables, "BENTOML_HOME": str(home)})
    peer = replace(SERVICE, name=f"service-{number}")
    with started(bench, peer, prepared.environments[SERVICE.name]) as server:
        check(bench, peer, DECISIONS, server, sizes=(1,))
        yield server


def _window(prepared: Prepared, server: Server, connections: int, seconds: float) -> float:
    """CPU time per request in one window."""
    single = target(prepared.bench, SERVICE, DECISIONS, server, 1)
    settings = prepared.bench.settings
    counted(single, connections=connections, requests=settings.warm_up_requests, limit=settings.timeouts.window)
    before = server.cpu_seconds()
    sample = closed_loop(single, connections=connections, seconds=seconds)
    return (server.cpu_seconds() - before) * 1e6 / len(sample)


def _costs(measured: Mapping[tuple[str, int], list[float]]) -> Iterator[Cost]:
    for (name, connections), windows in measured.items():
        beside = measured[OFF, connections]
        yield Cost(
            recorded=name,
            connections=connections,
            windows_us=tuple(windows),
            median_us=median(windows),
            ratio=median(figure / other for figure, other in zip(windows, beside, strict=True)),
        )
