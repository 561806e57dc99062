"""The recorder of a service: writes each decision to the decision log, counts it, and gives the gauges."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from decision_log.durability import Durability, GroupCommit, UnconfirmedFiles
from decision_log.errors import NotRecordedError
from decision_log.format import CHAMPION, Caller, ClientHash, Header, LineFormat, client_hash
from decision_log.notary import SIGNING_VARIABLE, Checkpointer, Notary
from decision_log.segments import ASIDE, SHADOW, Ages, WorkerId
from decision_log.writer import DecisionLogWriter, Failure, LogSettings, OnFailure, Position, make_folders
from features.store import HistorySource
from jobs.heartbeat import Heartbeat
from monitoring import windows
from monitoring.counts import Buffer, PendingDecisions, SharedCounts
from monitoring.settings import DriftSettings, RecordingSettings
from monitoring.windows import DecisionMetrics, Windows, load_checks
from scoring.drift_reference import Window
from scoring.scorer import Scores
from scoring.store import StoredModel

_LOGGER = logging.getLogger("bentoml.credit_scoring")

LOG_VARIABLE = "DECISION_LOG_DIR"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The folder that the workers of one service share; it is empty when the service starts."""


def check_recording(settings: RecordingSettings, environment: Mapping[str, str]) -> None:
    """Make the folders of the log; DecisionLogError or CheckError if `open_recorder` would fail in a worker."""
    load_checks(settings.checks)
    directory = environment.get(LOG_VARIABLE)
    if directory:
        _hash(settings.log, environment)
        make_folders(Path(directory))
        if Notary.of(environment, Path(directory)) is None:
            _LOGGER.warning("the decision log has no checkpoints: %s names no key", SIGNING_VARIABLE)


def open_recorder(
    model: StoredModel,
    settings: RecordingSettings,
    drift: DriftSettings,
    environment: Mapping[str, str],
    *,
    with_reasons: bool = True,
    clock: Callable[[], float] = time.time,
    registry: CollectorRegistry = REGISTRY,
    variant: str = CHAMPION,
    beside: Recorder | None = None,
) -> Recorder:
    """Open the recorder of this worker; DecisionLogError or CheckError if the log or a check is not usable.

    `with_reasons` says whether the declines carry reasons. A challenger that decides has a recorder of its own, beside
    that of the champion, with whose decisions its own are counted; nobody's checks run on its windows.
    """
    worker, header = WorkerId.this(), Header.of(model, with_reasons=with_reasons)
    checks = load_checks(settings.checks if beside is None else ())
    metrics = (
        DecisionMetrics(model.version, settings.probability_buckets, list(checks), registry=registry)
        if beside is None
        else beside.metrics.of(model.version)
    )
    records = _open_records(worker, header, settings.log, environment, metrics, registry, variant)
    own = None if _SHARED in environment else tempfile.TemporaryDirectory(prefix="credit-scoring-counts-")
    # Counts add up only over the same bins, which are those of one model. A challenger may have the champion's model.
    folder = _of_variant(f"counts-{header.digest[:12]}", variant)
    directory = Path(own.name if own else environment[_SHARED]) / folder
    shared_counts = SharedCounts(
        directory,
        worker,
        model.scorer.artefact.reference,
        log=Path(environment[LOG_VARIABLE]) if records else None,
        days=settings.default_rate_days,
    )
    windows = Windows(directory, shared_counts, settings.window, drift, checks, metrics.check_failed, clock=clock)
    portfolio = model.scorer.artefact.portfolio.name
    recorder = Recorder(
        header,
        metrics,
        shared_counts,
        windows,
        records,
        portfolio=portfolio,
        explorer=_explorer(model, settings.log, environment) if records else None,
        variant=variant,
        clock=clock,
        registry=registry,
    )
    if own is not None:  # the folder would vanish with the local name
        finalize(recorder, own.cleanup)
    return recorder


Explored = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which declines may be approved at random, and which are, both of shape (n,)."""
Explorer = Callable[[Sequence[Caller], NDArray[np.float64], Scores], Explored]
"""Draws the declines that are approved at random."""


def _explorer(model: StoredModel, settings: LogSettings, environment: Mapping[str, str]) -> Explorer | None:
    """What draws for a model whose policy explores; None for another, and where no client is hashed."""
    scorer, hashed = model.scorer, _hash(settings, environment)
    if scorer.artefact.policy.explore is None:
        return None
    if hashed is None:
        _LOGGER.warning("no decline is explored: it is drawn by the hash of the client, and clients are not hashed")
        return None

    def draw(callers: Sequence[Caller], matrix: NDArray[np.float64], scores: Scores) -> Explored:
        def client(row: int) -> bytes | None:
            named = callers[row].client_id
            return None if named is None else hashed.digest(named)

        return scorer.explored(matrix, scores, client)

    return draw


def open_shadow_records(
    model: StoredModel,
    variant: str,
    settings: RecordingSettings,
    environment: Mapping[str, str],
    metrics: DecisionMetrics,
    lost: Callable[[int], object],
    *,
    with_reasons: bool = True,
    registry: CollectorRegistry = REGISTRY,
) -> DecisionRecords | None:
    """The log of what a challenger would have decided, in a folder of the decision log; None if there is no log.

    Nobody waits for its lines: one that cannot be written is told to `lost`.
    """
    header = Header.of(model, with_reasons=with_reasons)
    log = settings.log.model_copy(update={"on_failure": OnFailure.DROP, "durability": Durability.PROCESS})
    return _open_records(
        WorkerId.this(), header, log, environment, metrics, registry, variant, lost=lost, folder=SHADOW
    )


def _open_records(
    worker: WorkerId,
    header: Header,
    settings: LogSettings,
    environment: Mapping[str, str],
    metrics: DecisionMetrics,
    registry: CollectorRegistry,
    variant: str,
    *,
    lost: Callable[[int], object] | None = None,
    folder: str = "",
) -> DecisionRecords | None:
    """The decision log, or the one in a folder of it, if the environment names a directory for it."""
    directory = environment.get(LOG_VARIABLE)
    if not directory:
        return None
    beats = partial(_beats_of, variant, registry)
    notary = Notary.of(environment, Path(directory))
    if notary is not None and folder:
        notary = notary.below(folder)
    return DecisionRecords(
        Path(directory) / folder,
        worker,
        header,
        settings,
        _hash(settings, environment),
        variant=variant,
        lost=lost or partial(metrics.failed, Failure.REMOVED),
        heartbeat=beats("decision-log"),
        commit=partial(_commit, metrics, beats, refuses=settings.refuses),
        attest=None
        if notary is None
        else partial(_checkpointer, notary, worker, settings.checkpoints.seconds, metrics, beats),
    )


Beats = Callable[[str], Heartbeat]
"""Gives the heartbeat of a thread."""


def _beats_of(variant: str, registry: CollectorRegistry, thread: str, *, periodic: bool = True) -> Heartbeat:
    # One label of two threads would show the one that beats, and hide the one that hangs.
    return Heartbeat(_of_variant(thread, variant), periodic=periodic, registry=registry)


def _of_variant(name: str, variant: str) -> str:
    return name if variant == CHAMPION else f"{name}-{variant}"


def _commit(metrics: DecisionMetrics, beats: Beats, unconfirmed: UnconfirmedFiles, *, refuses: bool) -> GroupCommit:
    failed = partial(metrics.failed, Failure.UNCONFIRMED)
    return GroupCommit(unconfirmed.flush, failed, beats("confirmations"), refuses=refuses)


def _checkpointer(
    notary: Notary,
    worker: WorkerId,
    seconds: float,
    metrics: DecisionMetrics,
    beats: Beats,
    log: DecisionLogWriter,
) -> Checkpointer:
    return Checkpointer(
        notary,
        log.directory,
        worker,
        seconds,
        log.take,
        log.due,
        beats("checkpoints"),
        made=metrics.attested,
        failed=metrics.not_attested,
    )


def _hash(settings: LogSettings, environment: Mapping[str, str]) -> ClientHash | None:
    return client_hash(environment) if settings.hash_clients else None


# Single requests are not counted one by one: with counting in blocks, metrics and drift counts change the processor
# time of a request by at most 2.2 % (benchmarks/results/recording.json).
_PENDING_ROWS = 1024
"""Rows that are counted together: enough to make counting cheap, and few enough for a millisecond or two."""

_THREAD = "drift"
_UNAVAILABLE = HistorySource.UNAVAILABLE
_ALONE = np.ones(1, dtype=np.bool_)

Matrix = NDArray[np.float64]


class Recorder(Collector):
    """Writes the line of every decision before the answer, and counts it soon after; see docs/how-to/monitoring.md.

    Parameters
    ----------
    metrics : counters of decisions and records
    records : writes the lines; None without a decision log
    portfolio : name of the model's portfolio
    explorer : draws the declines that are approved at random; None where none is
    variant : whose decisions it records
    clock : seconds since 1970
    """

    def __init__(
        self,
        header: Header,
        metrics: DecisionMetrics,
        shared_counts: SharedCounts,
        windows: Windows,
        records: DecisionRecords | None,
        *,
        portfolio: str,
        explorer: Explorer | None = None,
        variant: str = CHAMPION,
        clock: Callable[[], float] = time.time,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._explorer = explorer
        self._header = header
        self._portfolio = portfolio
        self.metrics = metrics
        self._shared_counts = shared_counts
        self._windows = windows
        self._records = records
        self._clock = clock
        self._lock = Lock()
        self._reads_histories = bool(shared_counts.reference.roll_ups)
        self._buffer = Buffer(_PENDING_ROWS, len(shared_counts.reference.features))
        self._position, self._at = shared_counts.counts.position, clock()
        self._lines = 0
        # Judging a window takes about 10 ms, for which the event loop must not stand still.
        self._background = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
        self._heartbeat = _beats_of(variant, registry, _THREAD, periodic=False)
        self._collecting = _beats_of(variant, registry, "metrics", periodic=False)
        self._judging: Future[None] | None = None
        self._closed = False

    def record(self, route: str, callers: Sequence[Caller], matrix: Matrix, scores: Scores) -> Scores:
        """Record decisions on the rows of a model matrix, shape (n, features), before any of them is answered.

        The policy may approve declines at random: the scores that are returned have these approvals, and are those to
        answer. NotRecordedError if a line cannot be written and the settings refuse to decide without it.
        """
        at, records = self._clock(), self._records
        explored = None if self._explorer is None else self._explorer(callers, matrix, scores)
        drawn = explored[1] if explored is not None and explored[1].any() else None
        recorded = scores if drawn is None else scores.approved(drawn)
        lines = b"" if records is None else records.lines(route, callers, matrix, recorded, at, drawn)
        unavailable = _unavailable(callers) if self._reads_histories else None
        # Batches are recorded in threads. Under one lock, rows are counted in the order of their lines: the position
        # that is published with the counts would otherwise skip lines that are not counted yet.
        with self._lock:
            position = None if records is None else self._append(records, lines, len(scores))
            # What is not recorded is not explored: nobody could tell later that chance had approved it.
            decided = scores if position is None else recorded
            if explored is not None and position is not None:
                self.metrics.explored(*(int(np.count_nonzero(rows)) for rows in explored))
            try:
                self._keep(matrix, decided, unavailable, at, position or self._position)
            except OSError:  # the line stands: the application must not be decided and recorded once more
                with self._collecting.guarded():
                    raise
        return decided

    def _append(self, records: DecisionRecords, lines: bytes, count: int) -> Position | None:
        written = records.append(lines)
        if isinstance(written, Position):
            self._lines += count
            return written
        self.metrics.failed(written, count)
        if records.refuses:
            raise NotRecordedError(f"the decision log: {written}")
        return None

    def _keep(
        self, matrix: Matrix, scores: Scores, unavailable: NDArray[np.bool_] | None, at: float, position: Position
    ) -> None:
        """Keep decisions for the next count; more than fit into the buffer are counted now."""
        if not self._buffer.holds(len(scores)):
            self._count(self._buffer.take())
        self._at, self._position = at, position
        if self._buffer.holds(len(scores)):
            self._buffer.keep(matrix, scores, unavailable)
        else:
            self._count(PendingDecisions.of(matrix, scores, unavailable))

    @property
    def confirms(self) -> bool:
        """Whether records must survive a power cut before they are answered."""
        return self._records is not None and self._records.confirms

    def confirmed(self) -> Future[None] | None:
        """A future that is done when the records so far survive a power cut; None if that is not asked for."""
        return None if self._records is None else self._records.confirmed()

    def publish(self) -> None:
        """Count the decisions since the last call, and have a complete window judged."""
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

    def _count(self, decided: PendingDecisions) -> None:
        if not len(decided):
            return
        counts = self._shared_counts.counts
        reference = self._shared_counts.reference
        window = Window.of(reference, decided.matrix, decided.probability, decided.unavailable)
        counts.add(window, float(decided.probability.sum()), at=self._at)
        counts.position = self._position
        self._shared_counts.publish()
        self.metrics.count(decided, self._lines)
        self._lines = 0

    def close(self) -> None:
        """Count what is left and close the log, even if counting fails; nothing may be recorded afterwards."""
        self._closed = True
        with ExitStack() as closing:
            if self._records is not None:
                closing.callback(self._records.close)
            closing.callback(self._shared_counts.close)
            self._background.shutdown()
            self._count_kept()

    def collect(self) -> Iterator[Metric]:
        """The gauges over all workers; those that fail are left out and counted."""
        now = self._clock()
        yield windows.model_info(self._header, self._portfolio)
        for part in (self._default_rate, self._log, self._last_window):
            # prometheus_client fails the whole scrape when a collector raises: each part is collected whole before
            families: list[Metric] = []
            with self._collecting.guarded():
                families = list(part(now))
            yield from families

    def _default_rate(self, now: float) -> Iterator[Metric]:
        rows, pds = self._shared_counts.total().recent(now)
        if rows:
            yield windows.default_rate(pds / rows)
        yield windows.passed_over(len(self._shared_counts.passed_over))

    def _log(self, now: float) -> Iterator[Metric]:
        if self._records is not None:
            yield from windows.decision_log(*self._records.ages(now), self._records.set_aside())

    def _last_window(self, now: float) -> Iterator[Metric]:  # noqa: ARG002 - called like the others
        last = self._windows.state.last
        if last is not None:
            yield from windows.drift(*last)

    def fault(self) -> str | None:
        """Why decisions are refused, if they cannot be recorded and the settings demand it; None otherwise."""
        return None if self._records is None else self._records.fault()

    def drift(self) -> dict[str, Any]:
        """The answer of GET /drift: the counts since the start and of the last complete window, JSON-ready."""
        self._count_kept()
        last = self._windows.state.last
        return {
            "model": self._header.model,
            "version": self._header.model_version,
            "digest": self._header.digest,
            **self._counted(self._shared_counts.total().window),
            "window": last and {**self._counted(last[0].counts), "start": last[0].start, "end": last[0].end},
        }

    def _counted(self, window: Window) -> dict[str, Any]:
        counts = self._shared_counts.reference.by_feature(window.features)
        return {
            "rows": window.rows,
            "unavailable": window.unavailable,
            "features": {name: each.tolist() for name, each in counts.items()},
            "probability": window.probability.tolist(),
        }


def _unavailable(callers: Sequence[Caller]) -> NDArray[np.bool_] | None:
    """Whose history was not available, shape (n,); None where nobody's was."""
    if len(callers) == 1:
        return _ALONE if callers[0].history is _UNAVAILABLE else None
    found = [caller.history is _UNAVAILABLE for caller in callers]
    return np.array(found) if True in found else None


class DecisionRecords:
    """Formats and writes the lines of one model; DecisionLogError if no log can be kept in `directory`.

    Parameters
    ----------
    variant : name of the model among those that are served
    lost, heartbeat : see `decision_log.writer.DecisionLogWriter`
    attest : starts the thread that signs checkpoints; None without a key for them
    commit : starts the thread that has the disk confirm lines; called if the settings ask for that
    """

    def __init__(
        self,
        directory: Path,
        worker: WorkerId,
        header: Header,
        settings: LogSettings,
        client_hash: ClientHash | None,
        *,
        variant: str,
        lost: Callable[[int], object],
        heartbeat: Heartbeat,
        attest: Callable[[DecisionLogWriter], Checkpointer] | None,
        commit: Callable[[UnconfirmedFiles], GroupCommit],
    ) -> None:
        self._directory = directory
        self._host = worker.host
        self._format = LineFormat(header, client_hash, variant)
        self._log = DecisionLogWriter(
            directory, worker, header, settings, lost=lost, heartbeat=heartbeat, attested=attest is not None
        )
        self._checkpoints = None if attest is None else attest(self._log)
        self._commit = None if self._log.unconfirmed is None else commit(self._log.unconfirmed)
        self.refuses = settings.refuses

    def lines(
        self,
        route: str,
        callers: Sequence[Caller],
        matrix: NDArray[np.float64],
        scores: Scores,
        time: float,
        explored: NDArray[np.bool_] | None = None,
    ) -> bytes:
        """Format decisions as lines; see `decision_log.format.LineFormat`."""
        return self._format.lines(route, callers, matrix, scores, time, explored)

    def append(self, lines: bytes) -> Position | Failure:
        """Write the lines; returns where they end, or why they could not be written."""
        return self._log.append(lines)

    @property
    def confirms(self) -> bool:
        """Whether the disk is to confirm lines before they are answered."""
        return self._commit is not None

    def confirmed(self) -> Future[None] | None:
        """A future that is done when the disk has all lines so far; None if the settings ask for no confirmation."""
        return None if self._commit is None else self._commit.confirmed()

    def ages(self, now: float) -> tuple[float, float]:
        """Seconds since the first line of the oldest segment in use, and since the last of the oldest finished one.

        0 if there is no such segment. Finished ones that are closed do not count.
        """
        ages = Ages.of(self._directory, self._host)
        written, finished = (0.0 if each is None else max(0.0, now - each.timestamp()) for each in ages)
        return written, finished

    def set_aside(self) -> int:
        """How many files `close` has set aside."""
        try:
            return sum(1 for _ in (self._directory / ASIDE).iterdir())
        except OSError:
            return 0

    def fault(self) -> str | None:
        """Why decisions are refused, if no line can be written; None otherwise."""
        failure = self._log.missing if self.refuses else None
        return None if failure is None else f"the decision log cannot be written ({failure})"

    def close(self) -> None:
        """Finish the segments, have what is left attested, and close the log."""
        if self._commit is not None:
            self._commit.close()
        self._log.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
