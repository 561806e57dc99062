"""The writer of the decision log."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from features import Heartbeat
from monitoring.errors import DecisionLogError
from monitoring.segments import CLOSED, OPEN, WorkerId

from .segment import Segment
from .settings import LogSettings

_LOGGER = logging.getLogger("bentoml.credit_scoring")
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.5
"""Between two looks whether the segments are still in their places."""
_OWNER_ONLY = 0o700
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Failure(StrEnum):
    """Why a line was not written."""

    NO_SPACE = "no_space"
    IO = "io"
    REMOVED = "removed"
    """It was written, and then its file was removed, moved, replaced or cut short."""


class Position(NamedTuple):
    """A place in what one worker writes: the number of a segment, and a byte in it."""

    segment: int
    offset: int


class DecisionLog:
    """Appends lines to segments of this worker, of which the next one is always allocated already.

    Allocating, cutting off and letting go are the work of a thread; `append` only copies into the page cache, and sees
    that the file is still in its place. Where it is not, what it held is lost, and the next segment goes on.

    Parameters
    ----------
    directory : of the log; DecisionLogError if it cannot be made
    header : what every segment begins with
    lost : is told how many lines were written and are no longer there
    heartbeat : of the thread
    """

    def __init__(
        self,
        directory: Path,
        worker: WorkerId,
        header: bytes,
        settings: LogSettings,
        *,
        lost: Callable[[int], object] = lambda _: None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._directory = directory
        self._worker = worker
        self._header = header
        self._settings = settings
        self._lost = lost
        self._heartbeat = heartbeat or Heartbeat("decision-log", registry=CollectorRegistry())
        self._lock = threading.Lock()
        self._numbering = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._current: Segment | None = None
        self._next: Segment | None = None
        self._finished: list[Segment] = []
        self._allocated = 0
        self._first_line: float | None = None
        self._failure: Failure | None = None
        self._stopping = False
        make_folders(directory)
        self._allocate()
        self._thread = threading.Thread(target=self._keep_ready, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def age(self) -> float:
        """Seconds since the first line of the current segment; 0 while there is none."""
        first = self._first_line
        return 0.0 if first is None else time.monotonic() - first

    @property
    def missing(self) -> Failure | None:
        """Why no line can be written at present; None if one can."""
        with self._lock:
            return self._failure if self._current is None and self._next is None else None

    def append(self, lines: bytes) -> Position | Failure:
        """Append lines; where they end, or why they are not there: then nothing of them is."""
        with self._lock:
            if self._current is None or (self._next is not None and not self._current.fits(lines)):
                self._turn()
            try:
                if self._current is None or not self._current.write(lines):
                    self._drop_missing()
                    self._replace(lines)
            except OSError as error:
                self._turn()
                return self._failed(error)
            if self._current is None:
                return self._failure or Failure.IO
            if self._first_line is None:
                self._first_line = time.monotonic()
            return Position(self._current.number, self._current.used)

    def _replace(self, lines: bytes) -> None:
        """Write the lines into another segment, since that in use is not there any more; none if that is not either."""
        if self._current is None and self._next is None and self._failure is None:
            self._next = self._allocated_now()
        if self._current is None:
            self._turn()
        if self._current is not None and not self._current.write(lines):
            self._drop_missing()

    def _drop_missing(self) -> None:
        """Go on without the segments that are not in their places any more, and tell what is lost with them."""
        for segment in (self._current, self._next):
            if segment is None or segment.intact():
                continue
            lines = segment.missing()
            if segment is self._current:
                self._current, self._first_line = None, None
            else:
                self._next = None
            self._finished.append(segment)
            self._changed.notify()
            _LOGGER.error("the decision log: %s was removed, replaced or cut short; %d lines lost", segment.path, lines)
            if lines:
                self._lost(lines)

    def close(self) -> None:
        """Finish what is open. Nothing may be appended any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        with self._changed:
            self._drop_missing()
            self._turn()
            if self._current is not None:  # allocated for what does not come any more
                self._current.path.unlink(missing_ok=True)
                self._turn()
        self._finish()

    def _turn(self) -> None:
        """Go on with the next segment, if there is one."""
        if self._current is not None:
            self._finished.append(self._current)
        if self._current is not self._next:
            self._changed.notify()
        self._current, self._next = self._next, None
        self._first_line = None

    def _keep_ready(self) -> None:
        while not self._stopping:
            with self._heartbeat.guarded():
                self._made_ready()
            if self._heartbeat.failing:
                time.sleep(_RETRY_SECONDS)
        self._heartbeat.rest()

    def _made_ready(self) -> None:
        with self._changed:
            if self._idle():
                self._changed.wait(self._pause())
            if self._stopping:
                return
            self._drop_missing()
            if self._next is not None and self.age >= self._settings.segment_seconds:
                self._turn()
        self._finish()
        if self._next is None:
            self._allocate()

    def _idle(self) -> bool:
        """Whether there is nothing to do at present."""
        ready = self._next is not None or self._failure is not None
        return ready and not self._finished and not self._stopping

    def _pause(self) -> float:
        """Seconds until there may be something to do, if nobody says so before."""
        if self._next is None:
            return _RETRY_SECONDS
        return min(_LOOK_SECONDS, max(0.0, self._settings.segment_seconds - self.age))

    def _finish(self) -> None:
        while self._finished:
            self._finished.pop().finish()

    def _allocate(self) -> None:
        """Have the next segment ready; outside of the lock, since it may take long."""
        try:
            segment = self._allocated_now()
        except OSError as error:
            with self._changed:
                self._failed(error)
            return
        with self._changed:
            if self._next is None:
                self._next, self._failure = segment, None
                return
        segment.path.unlink(missing_ok=True)  # a request could not wait for it
        segment.finish()

    def _allocated_now(self) -> Segment:
        with self._numbering:
            number = self._allocated
            path = self._worker.segment(self._directory, number)
            if not path.parent.is_dir():
                _make_folders(self._directory)
            segment = Segment.allocate(path, number, self._settings.segment_bytes, self._header)
            self._allocated = number + 1
            return segment

    def _failed(self, error: OSError) -> Failure:
        """Remember why; it is said once for every time that things go wrong anew."""
        failure = Failure.NO_SPACE if error.errno in _NO_SPACE else Failure.IO
        if failure is not self._failure:
            _LOGGER.error("the decision log cannot be written: %s", os.strerror(error.errno or errno.EIO))
        self._failure = failure
        return failure


def make_folders(directory: Path) -> None:
    """Make the folders of a log; DecisionLogError if none can be kept there."""
    try:
        _make_folders(directory)
    except OSError as error:
        raise DecisionLogError(f"{directory}: no decision log can be kept there ({error.strerror})") from None
    if not os.access(directory / OPEN, os.W_OK | os.X_OK):
        raise DecisionLogError(f"{directory}: no decision log can be kept there (not writable)")


def _make_folders(directory: Path) -> None:
    """The folders, for their owner only; those that are there already are closed to others where that is permitted."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        directory.mkdir(mode=_OWNER_ONLY)
        directory.chmod(_OWNER_ONLY)
    for name in (OPEN, CLOSED):
        (directory / name).mkdir(mode=_OWNER_ONLY, exist_ok=True)
        with suppress(PermissionError):  # they are somebody else's
            (directory / name).chmod(_OWNER_ONLY)
