"""This service under several environments at once, measured window by window beside each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.comparison import Prepared
from benchmarks.load import Target, closed_loop, counted
from benchmarks.measurement import check, started, target
from benchmarks.peer import SERVICE
from benchmarks.process import Server
from benchmarks.request_format import DECISIONS
from benchmarks.results import Recorded
from jobs.commandline import Progress

_WINDOWS_OF_A_START = 3
Window = tuple[float, float]
"""CPU time per request, microseconds, and the p99 of the answers, milliseconds."""


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
class Cost:
    """CPU time of the whole process tree per request, microseconds, window by window.

    `ratio` and `difference_us` are medians over the windows, each compared with the first choice's beside it.
    `p99_ms` is of the answers of each window, where it was kept.
    """

    choice: str
    connections: int
    windows_us: tuple[float, ...]
    median_us: float
    ratio: float
    difference_us: float
    p99_ms: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        choice: str,
        connections: int,
        windows: Sequence[tuple[float, float]],
        beside: Sequence[tuple[float, float]],
    ) -> Self:
        """The cost of a choice, and of the first one in the windows beside it: microseconds, and the p99."""
        windows_us, beside_us = ([figure for figure, _ in each] for each in (windows, beside))
        pairs = list(zip(windows_us, beside_us, strict=True))
        return cls(
            choice=choice,
            connections=connections,
            windows_us=tuple(windows_us),
            median_us=median(windows_us),
            ratio=median(figure / other for figure, other in pairs),
            difference_us=median(figure - other for figure, other in pairs),
            p99_ms=tuple(late for _, late in windows),
        )


@dataclass(frozen=True, kw_only=True)
class Costs(Recorded):
    """The results of choices side by side."""

    costs: tuple[Cost, ...]


def side_by_side(
    prepared: Prepared,
    choices: Sequence[Choice],
    progress: Progress,
    *,
    windows: int,
    seconds: float,
    after: float = 0.0,
) -> Costs:
    """The costs of every choice at every number of connections, against the first choice.

    `after` is how many seconds behind the load a window still counts: a service may work after its answers.

    The order is turned round from window to window, and every few windows all services are started anew: two processes
    that are the same differ by some per cent for as long as they live.
    """
    found: dict[tuple[str, int], list[Window]] = {}
    for first in range(0, windows, _WINDOWS_OF_A_START):
        with ExitStack() as servers, progress.step(f"windows from {first + 1} of {windows}"):
            running = [
                (choice, servers.enter_context(_running(prepared, number, choice)))
                for number, choice in enumerate(choices)
            ]
            targets = {choice.name: _target(prepared, choice, server) for choice, server in running}
            for window in range(first, min(first + _WINDOWS_OF_A_START, windows)):
                for connections in prepared.bench.settings.connections:
                    for choice, server in running[:: -1 if window % 2 else 1]:
                        figure = _window(prepared, server, targets[choice.name], connections, (seconds, after))
                        found.setdefault((choice.name, connections), []).append(figure)
    costs = (Cost.of(name, number, us, found[choices[0].name, number]) for (name, number), us in found.items())
    return Costs(**prepared.provenance, costs=tuple(costs))


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
        check(bench, peer, DECISIONS, server, bench.workload.first(1))
        yield server


def _target(prepared: Prepared, choice: Choice, server: Server) -> Target:
    return target(prepared.bench, replace(SERVICE, headers=choice.headers), DECISIONS, server)


def _window(
    prepared: Prepared, server: Server, singles: Target, connections: int, durations: tuple[float, float]
) -> tuple[float, float]:
    """CPU time per request in one window, and the p99 of its answers in milliseconds."""
    settings = prepared.bench.settings
    counted(singles, connections=connections, requests=settings.warm_up_requests, limit=settings.timeouts.window)
    seconds, after = durations
    before = server.cpu_seconds()
    sample = closed_loop(singles, connections=connections, seconds=seconds)
    time.sleep(after)
    return (server.cpu_seconds() - before) * 1e6 / len(sample), sample.milliseconds(99)
