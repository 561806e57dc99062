"""What checking API keys costs: this service with and without keys, side by side in many short windows."""

from __future__ import annotations

from datetime import UTC, datetime

from benchmarks.comparison import ready
from benchmarks.peer import SERVICE
from benchmarks.settings import BenchmarkSettings
from benchmarks.side_by_side import Choice, Costs, side_by_side
from benchmarks.store import Store
from jobs.commandline import Progress
from scoring.keys import KEYS_VARIABLE, Scope, create_key, issue

OPEN, AGAIN, KEYS = "without keys", "without keys, a second service", "with keys"
"""The second tells how far two services differ that are the same."""

_HOLDERS = 100
_NO_LIMIT = 1e9


def access_cost(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, windows: int, seconds: float
) -> Costs:
    """Measure the service without keys, the same once more, and with a hundred keys of which one is sent."""
    prepared = ready(store, settings, [SERVICE], progress, command)
    choices = [Choice(name=OPEN, variables={}), Choice(name=AGAIN, variables={}), _with_keys(store)]
    return side_by_side(prepared, choices, progress, windows=windows, seconds=seconds)


def _with_keys(store: Store) -> Choice:
    path = store.folder / "keys.yaml"
    path.unlink(missing_ok=True)
    now = datetime.now(UTC)
    for number in range(_HOLDERS):
        issued = issue(f"holder-{number}", (Scope.PREDICT,), created=now, requests_per_second=_NO_LIMIT)
        create_key(path, issued)
    return Choice(name=KEYS, variables={KEYS_VARIABLE: str(path)}, headers=(f"X-API-Key: {issued.secret}",))
