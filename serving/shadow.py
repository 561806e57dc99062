"""A challenger in shadow: it decides on what the champion has decided, after the answer, and for the records only."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import groupby, product
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from decision_log.format import Caller
from decision_log.writer import Failure
from features.transformer import Columns
from jobs.heartbeat import Heartbeat
from monitoring.recorder import DecisionRecords
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from scoring.store import StoredModel
from serving.variants import same_matrix

_LOGGER = logging.getLogger("bentoml.credit_scoring")

_ROOM = 4096
"""Rows that wait at most, for each challenger; those beyond are dropped and counted."""
_BLOCK = 512
"""Rows that are scored together: a row alone takes many times as long, and each block brings tables of its own into the
caches."""
_PAUSE = 0.25
"""Seconds that a row waits at most for others."""
_SWITCH_SECONDS = 0.001
"""After so long the thread gives the lock of the interpreter to a request that waits; Python's default is 0.005."""
_LAST_SECONDS = 5.0
"""Seconds that the last rows may take when a worker ends."""
_SHARE = 0.25
"""Most of its time that the thread works: it needs the lock of the interpreter, for which requests wait."""


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

    def compare(self, champion: OfferedRows, challenger: Scores) -> None:
        """Count what the challenger would have decided on applications that the champion has decided."""
        firsts = zip(champion.reason.tolist(), challenger.reasons.tolist(), strict=True)
        # First what may fail, so that rows are counted whole or not at all.
        changed = sum(bool(was and reasons and was != reasons[0].code) for was, reasons in firsts)
        self._reasons.inc(changed)
        self.outcomes[ShadowOutcome.SCORED].inc(len(challenger))
        for (was, now), counter in self._decisions.items():
            counter.inc(int(np.count_nonzero((champion.decision == was) & (challenger.decision == now))))
        self._champion.inc(float(champion.probability.sum()))
        self._challenger.inc(float(challenger.probability.sum()))

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


@dataclass(frozen=True, slots=True, eq=False)
class OfferedRows:
    """Applications that the champion has decided; row i of every array is application i.

    Attributes
    ----------
    matrix : the champion's model matrix, for a challenger with the same features; otherwise of no columns
    numbers, levels : the raw columns, for a challenger with other features; otherwise of no columns
    caller : object, the Caller
    route : object, the path of the request
    probability, decision : the champion's
    reason : object, the code of the first reason of the champion's decline; None without one
    """

    matrix: NDArray[np.float64]
    numbers: NDArray[np.float64]
    levels: NDArray[np.object_]
    caller: NDArray[np.object_]
    route: NDArray[np.object_]
    probability: NDArray[np.float64]
    decision: NDArray[np.object_]
    reason: NDArray[np.object_]

    @classmethod
    def empty(cls, champion: StoredModel, *, same_features: bool) -> Self:
        """Room for as many as may wait."""
        # Allocated once: keeping the arrays of requests instead would scatter memory among them, which makes the next
        # requests slower.
        schema, features = champion.scorer.artefact.portfolio.schema, len(champion.scorer.features)
        numbers, levels = (0, 0) if same_features else (len(schema.numeric), len(schema.categorical))
        caller, route, decision, reason = (np.empty(_ROOM, dtype=object) for _ in range(4))
        return cls(
            np.empty((_ROOM, features if same_features else 0)), np.empty((_ROOM, numbers)),
            np.empty((_ROOM, levels), dtype=object), caller, route, np.empty(_ROOM), decision, reason,
        )  # fmt: skip

    def take(self, rows: slice) -> Self:
        """The chosen rows, not copied."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(
        self, start: int, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Copy applications into the rows from `start` on; there must be room for them."""
        rows = slice(start, start + len(callers))
        if self.matrix.shape[1]:
            self.matrix[rows] = matrix
        elif columns is not None:
            self.numbers[rows], self.levels[rows] = columns.numbers, columns.levels
        self.route[rows] = route
        self.probability[rows], self.decision[rows] = scores.probability, scores.decision
        for row, (caller, reasons) in enumerate(zip(callers, scores.reasons.tolist(), strict=True), start):
            self.caller[row], self.reason[row] = caller, reasons[0].code if reasons else None

    def forget(self) -> None:
        """Let go of what belongs to applicants."""
        for field in fields(self):
            kept = getattr(self, field.name)
            kept[:] = None if kept.dtype == object else np.nan


class Shadow:
    """Has one challenger decide on the applications that it is offered, in blocks on a thread of its own.

    Parameters
    ----------
    champion : the model that decides
    records : writes the lines into the log of shadows; None where nothing is recorded
    with_reasons : whether declines carry reasons
    """

    # A thread for each challenger: one that is slow must not hold up the others.

    def __init__(
        self,
        name: str,
        served: StoredModel,
        champion: StoredModel,
        metrics: ShadowMetrics,
        records: DecisionRecords | None = None,
        *,
        with_reasons: bool = True,
        clock: Callable[[], float] = time.time,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name = name
        self.served = served
        self._portfolio = champion.scorer.artefact.portfolio
        self._metrics = metrics
        self._records = records
        self._with_reasons = with_reasons
        self._clock = clock
        self._same = same_matrix(served, champion)
        self._lock = threading.Lock()
        self._filling, self._scoring = (OfferedRows.empty(champion, same_features=self._same) for _ in range(2))
        self._used = 0
        self._settling = threading.Lock()  # of what becomes of scored rows; a request never waits for it
        self._left = 0
        self._closed = False
        self._failing: type[Exception] | None = None
        self._due, self._stopped = threading.Event(), threading.Event()
        self._end = 0.0
        self._heartbeat = Heartbeat(f"shadow-{name}", registry=registry)
        self._thread = threading.Thread(target=self._run, name=f"shadow-{name}", daemon=True)
        sys.setswitchinterval(min(_SWITCH_SECONDS, sys.getswitchinterval()))
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
            start = self._used
            room = 0 if self._closed else _ROOM - start
            if len(callers) > room:
                self._metrics.outcomes[ShadowOutcome.DROPPED].inc(len(callers) - room)
                kept = slice(0, room)
                callers, columns, matrix = callers[kept], columns and columns.take(kept), matrix[kept]
                scores = scores.take(kept)
            self._filling.put(start, route, callers, columns, matrix, scores)
            self._used = start + len(callers)
        if self._used >= _BLOCK and not self._due.is_set():
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
            dropped, self._closed = self._left + self._used, True
        self._metrics.outcomes[ShadowOutcome.DROPPED].inc(dropped)
        if self._records is not None:
            self._records.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(_PAUSE)
            self._due.clear()
            began = time.perf_counter()
            with self._heartbeat.guarded():
                self.work()
            self._stopped.wait((time.perf_counter() - began) * (1 / _SHARE - 1))
        self.work()

    def work(self) -> None:
        """Score the applications that wait."""
        with self._lock:
            used, self._used = self._used, 0
            self._left = used
            self._filling, self._scoring = self._scoring, self._filling
        try:
            for start in range(0, used, _BLOCK):
                stop = min(start + _BLOCK, used)
                self._score(self._scoring.take(slice(start, stop)), used - stop)
        finally:
            self._scoring.take(slice(0, used)).forget()

    def _score(self, rows: OfferedRows, left: int) -> None:
        """Decide on a block of rows, after which `left` wait; one that fails does not lose the blocks after it."""
        try:
            matrix, scores = self._decided(rows)
            with self._settling:
                if not self._closed:
                    self._left = left
                    self._settle(rows, matrix, scores)
        except Exception as error:  # noqa: BLE001 - whatever a challenger does, the service goes on
            with self._settling:
                if not self._closed:
                    self._left = left
                    self._failed(error, len(rows.route))

    def _decided(self, rows: OfferedRows) -> tuple[NDArray[np.float64], Scores]:
        scorer, matrix = self.served.scorer, rows.matrix
        if not self._same:
            matrix = scorer.transformer.transform(Columns(rows.numbers, rows.levels, self._portfolio))
        return matrix, scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=self._with_reasons)

    def _settle(self, rows: OfferedRows, matrix: NDArray[np.float64], scores: Scores) -> None:
        if self._records is not None:
            self._record(self._records, rows, matrix, scores)
        self._metrics.compare(rows, scores)
        self._failing = None

    def _failed(self, error: Exception, rows: int) -> None:
        """Count a failure, and log it in one line if it is of a new type: its text may hold an applicant's value."""
        self._metrics.outcomes[ShadowOutcome.FAILED].inc(rows)
        if self._failing is not type(error):
            _LOGGER.error("the challenger %s in shadow fails: %s", self.name, type(error).__name__)
        self._failing = type(error)

    def _record(self, records: DecisionRecords, rows: OfferedRows, matrix: NDArray[np.float64], scores: Scores) -> None:
        at = self._clock()
        for route, group in groupby(range(len(scores)), key=rows.route.__getitem__):
            places = list(group)
            part = slice(places[0], places[-1] + 1)
            lines = records.lines(route, rows.caller[part].tolist(), matrix[part], scores.take(part), at)
            if isinstance(records.append(lines), Failure):
                self._metrics.lost(len(places))
