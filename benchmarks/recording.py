"""What recording decisions costs: this service with and without it, side by side in many short windows."""

from __future__ import annotations

import secrets
import shutil

import yaml

from benchmarks.comparison import ready
from benchmarks.peer import SERVICE
from benchmarks.settings import BenchmarkSettings
from benchmarks.side_by_side import Choice, Costs, side_by_side
from benchmarks.store import ROOT, Store
from jobs.commandline import Progress

OFF, COUNTED, LOGGED = "nothing", "metrics and drift counts", "metrics, drift counts and decision log"


def recording_cost(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, windows: int, seconds: float
) -> Costs:
    """Measure the service that records nothing, that counts, and that writes the decision log as well."""
    prepared = ready(store, settings, [SERVICE], progress, command)
    try:
        return side_by_side(prepared, _choices(store), progress, windows=windows, seconds=seconds)
    finally:
        shutil.rmtree(store.folder / "decisions", ignore_errors=True)


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
