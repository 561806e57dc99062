"""What recording decisions costs: this service with and without it, side by side in many short windows."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass

import yaml

from scoring import Progress

from .comparison import ready
from .peer import SERVICE
from .results import Recorded
from .settings import BenchmarkSettings
from .side_by_side import Choice, side_by_side
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
    measured = side_by_side(prepared, _choices(store), progress, windows=windows, seconds=seconds)
    shutil.rmtree(store.folder / "decisions", ignore_errors=True)
    off = {each.connections: each for each in measured if each.name == OFF}
    costs = tuple(
        Cost(
            recorded=each.name,
            connections=each.connections,
            windows_us=each.windows_us,
            median_us=each.median_us,
            ratio=each.ratio(off[each.connections]),
        )
        for each in measured
    )
    return RecordingCost(**prepared.provenance, costs=costs)


def _choices(store: Store) -> list[Choice]:
    """What tells the service to record so much."""
    content = yaml.safe_load((ROOT / "configs" / "monitoring.yaml").read_text(encoding="utf-8"))
    content["recording"]["enabled"] = False
    off = store.folder / "monitoring-off.yaml"
    off.write_text(yaml.safe_dump(content), encoding="utf-8")
    log = {"DECISION_LOG_DIR": str(store.folder / "decisions"), "DECISION_LOG_KEY": secrets.token_hex(32)}
    return [
        Choice(name=OFF, variables={"CREDIT_SCORING_MONITORING": str(off)}),
        Choice(name=COUNTED, variables={}),
        Choice(name=LOGGED, variables=log),
    ]
