"""The recorder: what the service tells of every decision it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from features import Heartbeat
from monitoring.decision import Caller, Header
from monitoring.drift import Window
from monitoring.errors import NotRecordedError
from scoring import Scores

from . import gauges
from .board import Board
from .buffer import Buffer, Decided
from .journal import Journal
from .log import Position
from .metrics import DecisionMetrics
from .windows import Windows

_PENDING_ROWS = 1024
"""Rows that are counted at once: so many that counting is cheap, so few that it takes a millisecond or two."""

_THREAD = "drift"

Matrix = NDArray[np.float64]


class Recorder(Collector):
    """Writes the line of every decision at once and counts it soon; see docs/how-to/monitoring.md.

    Parameters
    ----------
    journal : writes the lines; None for no decision log
    clock : seconds since 1970
    """

    def __init__(
        self,
        header: Header,
        metrics: DecisionMetrics,
        board: Board,
        windows: Windows,
        journal: Journal | None,
        *,
        clock: Callable[[], float] = time.time,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._header = header
        self._metrics = metrics
        self._board = board
        self._windows = windows
        self._journal = journal
        self._clock = clock
        self._lock = Lock()
        self._buffer = Buffer(_PENDING_ROWS, len(board.reference.features))
        self._position, self._at = board.counts.position, clock()
        self._lines = 0
        self._background = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
        self._heartbeat = Heartbeat(_THREAD, periodic=False, registry=registry)
        self._collecting = Heartbeat("metrics", periodic=False, registry=registry)
        self._judging: Future[None] | None = None
        self._closed = False

    def record(self, route: str, callers: Sequence[Caller], matrix: Matrix, scores: Scores) -> None:
        """Record decisions on the rows of a model matrix, shape (n, features), before they are told to anybody.

        NotRecordedError if a line cannot be written and the settings refuse to decide without it.
        """
        at, journal = self._clock(), self._journal
        lines = b"" if journal is None else journal.lines(route, callers, matrix, scores, at)
        with self._lock:  # so that rows are counted in the order of their lines
            position = None if journal is None else self._append(journal, lines, len(scores))
            self._keep(matrix, scores, at, position or self._position)

    def _append(self, journal: Journal, lines: bytes, count: int) -> Position | None:
        written = journal.append(lines)
        if isinstance(written, Position):
            self._lines += count
            return written
        self._metrics.failed(written, count)
        if journal.refuses:
            raise NotRecordedError(f"the decision log: {written}")
        return None

    def _keep(self, matrix: Matrix, scores: Scores, at: float, position: Position) -> None:
        """Keep decisions to be counted soon, whose lines end at a position; many are counted at once."""
        if not self._buffer.holds(len(scores)):
            self._count(self._buffer.take())
        self._at, self._position = at, position
        if self._buffer.holds(len(scores)):
            self._buffer.keep(matrix, scores)
        else:
            self._count(Decided.of(matrix, scores))

    def publish(self) -> None:
        """Publish what has been recorded since the last time, and see whether a window is complete."""
        self._count_kept()
        if self._closed:
            return
        if self._judging is None or self._judging.done():
            now, due = self._clock(), False
            with self._heartbeat.guarded():
                due = self._windows.due(now)
            if due:
                self._judging = self._background.submit(self._judge, now)

    def _judge(self, now: float) -> None:
        with self._heartbeat.guarded():
            self._windows.complete(now)

    def _count_kept(self) -> None:
        with self._lock:
            self._count(self._buffer.take())

    def _count(self, decided: Decided) -> None:
        if not len(decided):
            return
        counts = self._board.counts
        window = Window.of(self._board.reference, decided.matrix, decided.probability)
        counts.add(window, float(decided.probability.sum()), at=self._at)
        counts.position = self._position
        self._board.publish()
        self._metrics.count(decided, self._lines)
        self._lines = 0

    def close(self) -> None:
        """Count and finish everything. Nothing may be recorded any more."""
        self._closed = True
        self._background.shutdown()
        self._count_kept()
        self._board.close()
        if self._journal is not None:
            self._journal.close()

    def collect(self) -> Iterator[Metric]:
        """The gauges over all workers; those that cannot be had are left out and counted."""
        now = self._clock()
        yield gauges.model_info(self._header)
        for part in (self._default_rate, self._log, self._last_window):
            families: list[Metric] = []
            with self._collecting.guarded():
                families = list(part(now))
            yield from families

    def _default_rate(self, now: float) -> Iterator[Metric]:
        rows, pds = self._board.total().recent(now)
        if rows:
            yield gauges.default_rate(pds / rows)
        yield gauges.passed_over(len(self._board.passed_over))

    def _log(self, now: float) -> Iterator[Metric]:
        if self._journal is not None:
            yield from gauges.decision_log(*self._journal.ages(now), self._journal.set_aside())

    def _last_window(self, now: float) -> Iterator[Metric]:  # noqa: ARG002 - called like the others
        last = self._windows.state.last
        if last is not None:
            yield from gauges.drift(*last)

    def fault(self) -> str | None:
        """Why nothing can be decided, where that is so: decisions that cannot be recorded are refused."""
        return None if self._journal is None else self._journal.fault()

    def drift(self) -> dict[str, Any]:
        """What GET /drift answers: the counts since the start and those of the last complete window, JSON-ready."""
        self._count_kept()
        last = self._windows.state.last
        return {
            "model": self._header.model,
            "version": self._header.model_version,
            "digest": self._header.digest,
            **self._counted(self._board.total().window),
            "window": last and {**self._counted(last[0].counts), "start": last[0].start, "end": last[0].end},
        }

    def _counted(self, window: Window) -> dict[str, Any]:
        bins = self._board.reference.features.items()
        return {
            "rows": window.rows,
            "features": {
                name: row[: each.size].tolist() for (name, each), row in zip(bins, window.features, strict=True)
            },
            "probability": window.probability.tolist(),
        }
