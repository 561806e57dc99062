"""This service under several environments at once, measured window by window beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from scoring import Progress

from .comparison import Prepared
from .load import closed_loop, counted
from .measurement import check, started, target
from .peer import SERVICE
from .process import Server
from .request_format import DECISIONS

_WINDOWS_OF_A_START = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One environment of the service.

    Attributes
    ----------
    variables : environment variables
    headers : of every request, "Name: value"
    """

    name: str
    variables: Mapping[str, str]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """CPU time of the whole process tree per request, microseconds, window by window."""

    name: str
    connections: int
    windows_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """Of the windows."""
        return median(self.windows_us)

    def ratio(self, beside: Measured) -> float:
        """The median over the windows of this to that of the window beside it."""
        pairs = zip(self.windows_us, beside.windows_us, strict=True)
        return median(figure / other for figure, other in pairs)

    def difference_us(self, beside: Measured) -> float:
        """The median over the windows of how much more this takes than the window beside it."""
        pairs = zip(self.windows_us, beside.windows_us, strict=True)
        return median(figure - other for figure, other in pairs)


def side_by_side(
    prepared: Prepared, choices: Sequence[Choice], progress: Progress, *, windows: int, seconds: float
) -> list[Measured]:
    """Every choice at every number of connections.

    The order is turned round from window to window, and every few windows all services are started anew: two processes
    that are the same differ by some per cent for as long as they live.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for first in range(0, windows, _WINDOWS_OF_A_START):
        with ExitStack() as servers, progress.step(f"windows from {first + 1} of {windows}"):
            running = [
                (choice, servers.enter_context(_running(prepared, number, choice)))
                for number, choice in enumerate(choices)
            ]
            for window in range(first, min(first + _WINDOWS_OF_A_START, windows)):
                for connections in prepared.bench.settings.connections:
                    for choice, server in running[:: -1 if window % 2 else 1]:
                        figure = _window(prepared, choice, server, connections, seconds)
                        found.setdefault((choice.name, connections), []).append(figure)
    return [Measured(name=name, connections=number, windows_us=tuple(us)) for (name, number), us in found.items()]


@contextmanager
def _running(prepared: Prepared, number: int, choice: Choice) -> Iterator[Server]:
    """A service with a BentoML home of its own: two that share one remove each other's metrics."""
    home = prepared.bench.store.folder / f"home-{number}"
    home.mkdir(exist_ok=True)
    models = home / "models"
    if not models.is_symlink():
        models.symlink_to(Path(prepared.bench.variables["BENTOML_HOME"]) / "models")
    variables = {**prepared.bench.variables, **choice.variables, "BENTOML_HOME": str(home)}
    bench = replace(prepared.bench, variables=variables)
    peer = replace(SERVICE, name=f"service-{number}", headers=choice.headers)
    with started(bench, peer, prepared.environments[SERVICE.name]) as server:
        check(bench, peer, DECISIONS, server, sizes=(1,))
        yield server


def _window(prepared: Prepared, choice: Choice, server: Server, connections: int, seconds: float) -> float:
    """CPU time per request in one window."""
    single = target(prepared.bench, replace(SERVICE, headers=choice.headers), DECISIONS, server, 1)
    settings = prepared.bench.settings
    counted(single, connections=connections, requests=settings.warm_up_requests, limit=settings.timeouts.window)
    before = server.cpu_seconds()
    sample = closed_loop(single, connections=connections, seconds=seconds)
    return (server.cpu_seconds() - before) * 1e6 / len(sample)
