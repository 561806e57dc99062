"""Drift counts: each worker counts its decisions in a file, and the counts of all workers are added up."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SegmentError
from decision_log.format import HISTORY, vectors
from decision_log.segments import WorkerId, read_decisions, read_header
from decision_log.writer import Position
from features.store import HistorySource
from jobs.output import take_lock
from jobs.settings import printable
from scoring.drift_reference import DriftReference, Window
from scoring.scorer import Scores

_LOGGER = logging.getLogger("bentoml.credit_scoring")


SUFFIX = ".counts"
_HOUR = 3600
_START = Position(0, 0)
# Above what any service scores, and low enough that the sum over thousands of files stays within 64 bits.
_MOST = 1 << 48
_NUMBER_BYTES = 8
_FOLDER, _FILE = 0o700, 0o600


@dataclass(slots=True, eq=False)
class ScoredCounts:
    """Counts of scored applications since the start: over the bins of the drift reference, and by hour.

    Attributes
    ----------
    reference : the bins
    window : the drift counts
    hours : int64, shape (h,), hours since 1970; 0 for an unused slot
    hour_rows, hour_pds : applications that were scored in each of these hours, and the sum of their PDs
    position : the place in the worker's decision log up to which lines are counted
    """

    reference: DriftReference
    window: Window
    hours: NDArray[np.int64]
    hour_rows: NDArray[np.int64]
    hour_pds: NDArray[np.float64]
    position: Position = _START

    @classmethod
    def none(cls, reference: DriftReference, days: int) -> Self:
        """Empty counts, with room for so many days."""
        size = days * 24
        window = Window(np.zeros_like(reference.counts), np.zeros(reference.probability.size, dtype=np.int64))
        return cls(reference, window, np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64), np.zeros(size))

    def add(self, window: Window, pds: float, *, at: float) -> None:
        """Add applications scored at one time, in seconds since 1970, with the sum of their PDs."""
        self.window += window
        self._add_hour(int(at // _HOUR), window.rows, pds)

    def _add_hour(self, hour: int, rows: int, pds: float) -> None:
        # The hours are a ring, so that a service that runs for years keeps a file of the same size. An hour that is
        # older than the one in its slot came late, from a log that is counted again, and is dropped.
        slot = hour % len(self.hours)
        if hour > self.hours[slot]:
            self.hours[slot], self.hour_rows[slot], self.hour_pds[slot] = hour, 0, 0.0
        if hour == self.hours[slot]:
            self.hour_rows[slot] += rows
            self.hour_pds[slot] += pds

    def merge(self, other: ScoredCounts) -> None:
        """Add the counts of another worker."""
        self.window += other.window
        for hour, rows, pds in zip(
            other.hours.tolist(), other.hour_rows.tolist(), other.hour_pds.tolist(), strict=True
        ):
            self._add_hour(hour, rows, pds)

    def recent(self, now: float) -> tuple[int, float]:
        """The number of applications scored in the last days, as many as are kept, and the sum of their PDs."""
        within = self.hours > now // _HOUR - len(self.hours)
        return int(self.hour_rows[within].sum()), float(self.hour_pds[within].sum())


class SharedCounts:
    """A directory in which each worker of a service publishes its counts, and where they are added up.

    Parameters
    ----------
    log : the decision log, None if there is none
    days : days for which the mean PD is kept

    Attributes
    ----------
    passed_over : files beside the counts that hold no counts, or are damaged
    """

    def __init__(self, directory: Path, worker: WorkerId, reference: DriftReference, *, log: Path | None, days: int):
        self._directory = directory
        self._worker = worker
        self.reference = reference
        self._log = log
        self._days = days
        self._settled: set[Path] = set()
        self.passed_over: set[Path] = set()
        self.counts = self.empty()
        self._file = CountsFile(directory / f"{worker}{SUFFIX}", self.counts)

    def publish(self) -> None:
        """Publish the counts of this worker."""
        self._file.publish(self.counts)

    def rows(self) -> int:
        """How many applications all workers have counted."""
        return sum(counts.window.rows for counts in self._all())

    def total(self) -> ScoredCounts:
        """The counts of all workers, also of ended ones; its `position` means nothing."""
        self._settle()
        total = self.empty()
        for counts in self._all():
            total.merge(counts)
        return total

    def _all(self) -> Iterator[ScoredCounts]:
        for path in self._paths():
            counts = self._counts(path)
            if counts is not None:
                yield counts

    def _counts(self, path: Path) -> ScoredCounts | None:
        """The counts in a file; None, with one line in the log, if it holds none."""
        try:
            counts = read_counts(path, self.counts)
        except (OSError, ValueError) as error:
            if path not in self.passed_over:
                _LOGGER.error("%s: no counts of a worker, passed over (%s)", printable(str(path)), type(error).__name__)  # noqa: TRY400 - one line
            self.passed_over.add(path)
            return None
        self.passed_over.discard(path)
        return counts

    def close(self) -> None:
        """Publish for the last time."""
        self.publish()
        self._file.close()

    def empty(self) -> ScoredCounts:
        """Empty counts over the same bins."""
        return ScoredCounts.none(self.reference, self._days)

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob(f"*{SUFFIX}"))

    def _settle(self) -> None:
        """Count the lines that killed workers had written and not counted."""
        if self._log is None:
            return
        for path in self._paths():
            worker = _worker(path)
            if worker in (None, self._worker) or path in self._settled or self._counts(path) is None:
                continue
            try:
                file = CountsFile(path, self.counts)
            except BlockingIOError:  # its worker lives, or another worker is settling it
                continue
            # read again under the lock: another worker may have settled it since, and no line may count twice
            counts = read_counts(path, self.counts)
            if replay(counts, self._log, worker, self.reference):
                file.publish(counts)
            file.close()
            self._settled.add(path)


def _worker(path: Path) -> WorkerId | None:
    """The worker that a file of counts is named after; None for another name."""
    try:
        return WorkerId.parse(path.stem)
    except ValueError:
        return None


class CountsFile:
    """The counts of one worker in a mapped file, which is locked while it is open and made if it is missing."""

    # A worker may be killed at any moment, so the file holds two copies and the number of the last publication, which
    # says by its parity which copy holds. Writing goes to the other copy, and the number changes last. So counts and
    # the position in the log change at once: without that, lines would be counted twice or never after a kill.

    def __init__(self, path: Path, counts: ScoredCounts) -> None:
        self._path = path
        self._layout = _layout(counts)
        self._open()

    def publish(self, counts: ScoredCounts) -> None:
        """Write the counts in the place of those published before."""
        self._restore()
        number = int(self._content["number"]) + 1
        copy = self._content["copies"][number % 2]
        copy["features"], copy["probability"] = counts.window.features, counts.window.probability
        copy["hours"], copy["hour_rows"], copy["hour_pds"] = counts.hours, counts.hour_rows, counts.hour_pds
        copy["position"] = counts.position.segment, counts.position.offset
        self._content["unavailable"][number % 2] = counts.window.unavailable
        self._content["number"] = number

    def _restore(self) -> None:
        """Make the file anew if it was removed or cut."""
        # Writing into a mapped page that the file does not have any more raises SIGBUS, which ends the worker.
        size = self._layout.itemsize
        try:
            there = os.path.samestat(os.lstat(self._path), os.fstat(self._file.fileno()))
        except OSError:
            there = False
        if there and os.fstat(self._file.fileno()).st_size == size:
            return
        if not there:
            self._file.close()
            with suppress(FileNotFoundError, IsADirectoryError):
                self._path.unlink()
            self._open()
        self._file.truncate(size)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, _FILE), "r+b")
        if not take_lock(self._file, wait=False):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(self._path))
        self._file.truncate(self._layout.itemsize)
        self._content = np.memmap(self._file, dtype=self._layout, mode="r+", shape=(1,))[0]

    def close(self) -> None:
        """Close the file, which releases its lock."""
        self._file.close()


def read_counts(path: Path, empty: ScoredCounts) -> ScoredCounts:
    """Read the counts that a worker published last, over the bins of `empty`; ValueError or OSError without any."""
    layout = _layout(empty)
    sizes = layout.itemsize, _NUMBER_BYTES + layout["copies"].itemsize
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size not in sizes:
            raise ValueError("not a file of counts over these bins")
        # Reading takes no lock, so that no worker waits. While it lasts, the worker may publish twice and so write into
        # the copy that is being read; then the number has changed, and all is read again.
        while True:
            content = os.pread(descriptor, layout.itemsize, 0)
            if os.pread(descriptor, _NUMBER_BYTES, 0) == content[:_NUMBER_BYTES]:
                whole = np.frombuffer(content.ljust(layout.itemsize, b"\0"), layout)[0]
                place = int(whole["number"]) % 2
                copy, unavailable = whole["copies"][place].copy(), int(whole["unavailable"][place])
                return _plausible(_counts(copy, unavailable, empty.reference))
    finally:
        os.close(descriptor)


def _plausible(counts: ScoredCounts) -> ScoredCounts:
    """The counts; ValueError if they contradict themselves, since the file is damaged then."""
    window = counts.window
    rows = np.where(counts.reference.of_histories, window.available, window.rows)
    whole = (
        *(window.features, window.probability, window.unavailable),
        *(counts.hours, counts.hour_rows, *counts.position),
    )
    if not all(np.all((np.asarray(each) >= 0) & (np.asarray(each) < _MOST)) for each in whole):
        raise ValueError("counts out of bounds")
    if not np.all(np.add.reduceat(window.features, counts.reference.offsets[:-1]) == rows):
        raise ValueError("counts of features differ")
    if not np.all((counts.hour_pds >= 0) & (counts.hour_pds <= counts.hour_rows + 1)):
        raise ValueError("sums of PDs out of bounds")
    return counts


def _layout(counts: ScoredCounts) -> np.dtype[Any]:
    """The layout of a file, in which all zeros mean empty counts."""
    hours = counts.hours.shape
    copy = np.dtype(
        [
            ("features", "<i8", counts.window.features.shape),
            ("probability", "<i8", counts.window.probability.shape),
            ("hours", "<i8", hours),
            ("hour_rows", "<i8", hours),
            ("hour_pds", "<f8", hours),
            ("position", "<i8", (2,)),
        ]
    )
    # Files of older versions end with the copies, and nobody of theirs was counted without a history.
    return np.dtype([("number", "<i8"), ("copies", copy, (2,)), ("unavailable", "<i8", (2,))])


def _counts(copy: Any, unavailable: int, reference: DriftReference) -> ScoredCounts:
    segment, offset = copy["position"].tolist()
    return ScoredCounts(
        reference,
        Window(copy["features"], copy["probability"], unavailable),
        copy["hours"],
        copy["hour_rows"],
        copy["hour_pds"],
        Position(segment, offset),
    )


_ROWS = 1000
"""Lines that are counted at once."""


def replay(counts: ScoredCounts, log: Path, worker: WorkerId, reference: DriftReference) -> int:
    """Count the lines of a worker's open segments beyond the position of its counts; returns how many they are."""
    added = 0
    start = counts.position
    for number, path in worker.segments(log).items():
        if number < start.segment:
            continue
        offset = start.offset if number == start.segment else 0
        with suppress(SegmentError, FileNotFoundError):  # `close` reports a damaged one
            for lines in _chunks(_decisions(path, offset, reference)):
                pds = [line["probability"] for line in lines]
                unavailable = np.array([line.get(HISTORY) == HistorySource.UNAVAILABLE for line in lines])
                window = Window.of(reference, vectors(lines), np.array(pds), unavailable)
                counts.add(window, sum(pds), at=datetime.fromisoformat(lines[-1]["time"]).timestamp())
                added += len(lines)
        counts.position = Position(number + 1, 0)
    return added


def _decisions(path: Path, offset: int, reference: DriftReference) -> Iterator[dict[str, Any]]:
    header = read_header(path)
    if header is not None and header.features == tuple(reference.features):
        yield from read_decisions(path, header, offset)


def _chunks(lines: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(lines, _ROWS)):
        yield chunk


@dataclass(frozen=True, slots=True, eq=False)
class PendingDecisions:
    """Decisions that are recorded and not counted yet: n rows of the model matrix, and their scores.

    `unavailable` says whose history was not available, shape (n,); None where nobody's was.
    """

    matrix: NDArray[np.float64]
    probability: NDArray[np.float64]
    decision: NDArray[np.object_]
    risk_level: NDArray[np.object_]
    missing: NDArray[np.int64]
    unknown: NDArray[np.object_]
    withheld: NDArray[np.object_]
    unavailable: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, matrix: NDArray[np.float64], scores: Scores, unavailable: NDArray[np.bool_] | None) -> PendingDecisions:
        """The decisions on the rows of a model matrix."""
        return cls(
            matrix, scores.probability, scores.decision, scores.risk_level,
            scores.missing, scores.unknown, scores.withheld, unavailable,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.probability)


class Buffer:
    """Keeps copies of decisions in arrays that are allocated once."""

    # Keeping the arrays of requests instead would scatter memory among them, which makes the next requests slower.

    def __init__(self, rows: int, features: int) -> None:
        self._rows = PendingDecisions(
            np.empty((rows, features)), np.empty(rows), np.empty(rows, dtype=object), np.empty(rows, dtype=object),
            np.empty(rows, dtype=np.int64), np.empty(rows, dtype=object), np.empty(rows, dtype=object),
        )  # fmt: skip
        self._unavailable: NDArray[np.bool_] | None = None
        self._used = 0

    def holds(self, rows: int) -> bool:
        """Whether so many more rows fit in."""
        return self._used + rows <= len(self._rows)

    def keep(self, matrix: NDArray[np.float64], scores: Scores, unavailable: NDArray[np.bool_] | None = None) -> None:
        """Copy decisions on rows of the model matrix; the caller has checked that they fit in."""
        start, rows = self._used, self._rows
        self._used = end = start + len(scores)
        rows.matrix[start:end] = matrix
        if unavailable is not None:
            if self._unavailable is None:
                self._unavailable = np.zeros(len(rows), dtype=np.bool_)
            self._unavailable[start:end] = unavailable
        if end == start + 1:  # NumPy takes twice as long to copy an array of one as to set its value
            rows.probability[start] = scores.probability.item()
            rows.decision[start] = scores.decision.item()
            rows.risk_level[start] = scores.risk_level.item()
            rows.missing[start] = scores.missing.item()
            rows.unknown[start] = scores.unknown.item()
            rows.withheld[start] = scores.withheld.item()
            return
        rows.probability[start:end] = scores.probability
        rows.decision[start:end] = scores.decision
        rows.risk_level[start:end] = scores.risk_level
        rows.missing[start:end] = scores.missing
        rows.unknown[start:end] = scores.unknown
        rows.withheld[start:end] = scores.withheld

    def take(self) -> PendingDecisions:
        """The kept decisions, which the next `keep` overwrites."""
        rows, used, unavailable = self._rows, self._used, self._unavailable
        self._used, self._unavailable = 0, None
        return PendingDecisions(
            rows.matrix[:used], rows.probability[:used], rows.decision[:used], rows.risk_level[:used],
            rows.missing[:used], rows.unknown[:used], rows.withheld[:used],
            None if unavailable is None else unavailable[:used],
        )  # fmt: skip
