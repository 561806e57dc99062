"""A challenger in shadow: it decides on what the champion has decided, after the answer, and for the records only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from enum import StrEnum
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from decision_log.format import Caller
from features.transformer import Columns
from jobs.heartbeat import Heartbeat
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from scoring.store import StoredModel
from serving.judge import ChallengerError, ComparedBlock, Judge, OfferedRows, RowShape
from serving.variants import same_matrix

_LOGGER = logging.getLogger("bentoml.credit_scoring")

_ROOM = 4096
"""Rows that wait at most, for each challenger; those beyond are dropped and counted."""
_DUE = 2048
"""Rows for which the thread wakes before the pause is over. They are scored together: a row alone takes longer."""
_PAUSE = 1.0
"""Seconds that a row waits at most for others."""
_LAST_SECONDS = 5.0
"""Seconds that the last rows may take when a worker ends."""


class ShadowOutcome(StrEnum):
    """What became of an application that was offered to a challenger in shadow."""

    SCORED = "scored"
    FAILED = "failed"
    """The challenger raised an error."""
    DROPPED = "dropped"
    """The challenger was too slow: too many applications waited, or the worker ended."""
    UNREADABLE = "unreadable"
    """It came as a row of the champion's model matrix, which is not the challenger's."""


class ShadowMetrics:
    """Counters of one challenger in shadow; rates of them are its present figures.

    Mean shifts of the PD are differences of the two sums of PDs, over the applications scored.
    """

    def __init__(self, variant: str, *, registry: CollectorRegistry = REGISTRY) -> None:
        outcomes, decisions, pds, reasons, lost = _counters(registry)
        self.outcomes = {each: outcomes.labels(variant, each) for each in ShadowOutcome}
        self._decisions = {
            (was, now): decisions.labels(variant, was, now) for was, now in product(DecisionKind, DecisionKind)
        }
        self._champion, self._challenger = (pds.labels(variant, of) for of in ("champion", "challenger"))
        self._reasons = reasons.labels(variant)
        self._lost = lost.labels(variant)

    def add(self, compared: ComparedBlock) -> None:
        """Count what the challenger would have decided on applications that the champion has decided."""
        self._reasons.inc(compared.reasons)
        self.outcomes[ShadowOutcome.SCORED].inc(compared.rows)
        for pair, count in compared.decisions.items():
            self._decisions[pair].inc(count)
        self._champion.inc(compared.champion)
        self._challenger.inc(compared.challenger)

    def lost(self, lines: int) -> None:
        """Count lines that could not be written into the log of shadows."""
        self._lost.inc(lines)


_KNOWN: WeakKeyDictionary[CollectorRegistry, tuple[Counter, ...]] = WeakKeyDictionary()


def _counters(registry: CollectorRegistry) -> tuple[Counter, ...]:
    """The counters of all challengers: prometheus_client refuses a second one of the same name."""
    if registry not in _KNOWN:
        _KNOWN[registry] = (
            Counter(
                "credit_scoring_shadow_applications_total", "Applications offered to a challenger in shadow",
                ("variant", "outcome"), registry=registry,
            ),
            Counter(
                "credit_scoring_shadow_decisions_total", "Decisions of the champion and of a challenger in shadow",
                ("variant", "champion", "challenger"), registry=registry,
            ),
            Counter(
                "credit_scoring_shadow_pd_total", "Sum of the PDs of applications that champion and challenger scored",
                ("variant", "of"), registry=registry,
            ),
            Counter(
                "credit_scoring_shadow_reason_changes_total", "Declines by both whose first reasons differ",
                ("variant",), registry=registry,
            ),
            Counter(
                "credit_scoring_shadow_lines_lost_total", "Lines that the log of shadows lacks",
                ("variant",), registry=registry,
            ),
        )  # fmt: skip
    return _KNOWN[registry]


class Shadow:
    """Has one challenger decide on the applications that it is offered, in blocks on a thread of its own.

    Parameters
    ----------
    champion : the model that decides
    judge : decides on the blocks, and records
    """

    # A thread for each challenger: one that is slow must not hold up the others.

    def __init__(
        self,
        name: str,
        served: StoredModel,
        champion: StoredModel,
        metrics: ShadowMetrics,
        judge: Judge,
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name = name
        self._metrics = metrics
        self._judge = judge
        self._same = same_matrix(served, champion)
        self._lock = threading.Lock()
        memory = judge.memory(RowShape.of(champion, _ROOM, same_features=self._same))
        self._filling, self._scoring = memory.halves
        self._settling = threading.Lock()  # of what becomes of scored rows; a request never waits for it
        self._left = 0
        self._closed = False
        self._failing: str | None = None
        self._due, self._stopped = threading.Event(), threading.Event()
        self._end = 0.0
        self._heartbeat = Heartbeat(f"shadow-{name}", registry=registry)
        self._thread = threading.Thread(target=self._run, name=f"shadow-{name}", daemon=True)
        self._thread.start()

    def offer(
        self, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Keep applications for the challenger, as many as there is room for. An error is counted, and not raised."""
        if not self._same and columns is None:
            self._metrics.outcomes[ShadowOutcome.UNREADABLE].inc(len(callers))
            return
        try:
            self._keep(route, callers, columns, matrix, scores)
        except Exception as error:  # noqa: BLE001 - the decision is recorded by now, and must be answered
            self._failed(error, len(callers))

    def _keep(
        self, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> None:  # fmt: skip
        with self._lock:
            room = 0 if self._closed else _ROOM - len(self._filling)
            dropped = max(0, len(callers) - room)
            if dropped:
                kept = slice(0, room)
                callers, columns, matrix = callers[kept], columns and columns.take(kept), matrix[kept]
                scores = scores.take(kept)
            if callers and not self._filling.put(route, callers, columns, matrix, scores):
                dropped += len(callers)
            if dropped:
                self._metrics.outcomes[ShadowOutcome.DROPPED].inc(dropped)
        if len(self._filling) >= _DUE and not self._due.is_set():
            self._due.set()

    def stop(self) -> None:
        """Have the thread score what waits, and end."""
        self._end = time.monotonic() + _LAST_SECONDS
        self._stopped.set()
        self._due.set()

    def close(self) -> None:
        """Stop, wait for the last rows as long as they may take, count the others as dropped, and close the log."""
        if not self._stopped.is_set():
            self.stop()
        self._thread.join(max(0.0, self._end - time.monotonic()))
        with self._settling, self._lock:  # what the thread scores from now on is neither counted nor written
            dropped, self._closed = self._left + len(self._filling), True
        self._metrics.outcomes[ShadowOutcome.DROPPED].inc(dropped)
        self._judge.close()

    def _run(self) -> None:
        with self._heartbeat.guarded():
            self._judge.begin()
        while not self._stopped.is_set():
            self._due.wait(_PAUSE)
            self._due.clear()
            with self._heartbeat.guarded():
                self.work()
        self.work()

    def work(self) -> None:
        """Score the applications that wait."""
        with self._lock:
            self._filling, self._scoring = self._scoring, self._filling
            self._left = len(self._scoring)
        if self._left:
            try:
                self._score(self._scoring)
            finally:
                self._scoring.forget()

    def _score(self, rows: OfferedRows) -> None:
        """Have rows decided; some that fail do not lose those after them."""
        try:
            compared = self._judge.decide(rows)
            with self._settling:
                if not self._closed:
                    self._left = 0
                    self._settle(compared)
        except Exception as error:  # noqa: BLE001 - whatever a challenger does, the service goes on
            with self._settling:
                if not self._closed:
                    self._left = 0
                    self._failed(error, len(rows))

    def _settle(self, compared: ComparedBlock) -> None:
        if lost := self._judge.record():
            self._metrics.lost(lost)
        self._metrics.add(compared)
        self._failing = None

    def _failed(self, error: Exception, rows: int) -> None:
        """Count a failure, and log it in one line if it is of a new type: its text may hold an applicant's value."""
        self._metrics.outcomes[ShadowOutcome.FAILED].inc(rows)
        what = str(error) if isinstance(error, ChallengerError) else type(error).__name__
        if self._failing != what:
            _LOGGER.error("the challenger %s in shadow fails: %s", self.name, what)
        self._failing = what
