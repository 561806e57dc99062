"""What recording decisions and challengers cost: this service with and without, side by side in many short windows."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

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
    log = _logged(store.folder / "decisions")
    return [
        Choice(name=OFF, variables={"CREDIT_SCORING_MONITORING": str(off)}),
        Choice(name=COUNTED, variables={}),
        Choice(name=LOGGED, variables=log),
    ]


_LATER_SECONDS = 2.5
"""A challenger in shadow decides a second after the answer, or later."""
ALONE, ONE, TWO, AGAIN = "no challenger", "one challenger", "two challengers", "no challenger, again"


def shadow_cost(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, windows: int, seconds: float
) -> Costs:
    """Measure the service with no, one and two challengers in shadow; all of them record.

    A challenger is the champion once more, so it has the same features. The fourth service is the first once more: its
    distance from the first is that of two processes that are the same.
    """
    chosen = settings.model_copy(update={"connections": (1, 16)})
    prepared = ready(store, chosen, [SERVICE], progress, command)
    logs = [store.folder / f"decisions-{number}" for number in range(4)]
    try:
        choices = [
            Choice(name=name, variables={**_with_challengers(store, count), **_logged(log)})
            for (name, count), log in zip(((ALONE, 0), (ONE, 1), (TWO, 2), (AGAIN, 0)), logs, strict=True)
        ]
        return side_by_side(prepared, choices, progress, windows=windows, seconds=seconds, after=_LATER_SECONDS)
    finally:
        for log in logs:
            shutil.rmtree(log, ignore_errors=True)


def _logged(log: Path) -> dict[str, str]:
    return {"DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": secrets.token_hex(32)}


def _with_challengers(store: Store, count: int) -> dict[str, str]:
    content = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text(encoding="utf-8"))
    content["variants"] = [{"name": f"challenger-{one}", "model": content["model"]} for one in range(1, count + 1)]
    path = store.folder / f"serving-{count}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return {"CREDIT_SCORING_SETTINGS": str(path)}
