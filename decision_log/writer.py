"""One file of the decision log while a worker writes it."""

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
from typing import NamedTuple, Self

from prometheus_client import CollectorRegistry
from pydantic import Field

from decision_log.errors import DecisionLogError
from decision_log.segments import CLOSED, OPEN, WorkerId
from jobs.heartbeat import Heartbeat
from jobs.output import take_lock
from jobs.settings import Settings

_LOGGER = logging.getLogger("bentoml.credit_scoring")


_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.5
"""Between two looks whether the segments are still in their places."""
_OWNER_ONLY = 0o700
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OnFailure(StrEnum):
    """What happens to a request whose line cannot be written."""

    DROP = "drop"
    """It is answered, and the missing line is counted."""
    REFUSE = "refuse"
    """It is answered with 503 and counted: nothing is decided that is not recorded."""


class LogSettings(Settings):
    """The decision log, which is kept where DECISION_LOG_DIR says; without that there is none."""

    segment_bytes: int = Field(ge=1 << 16)
    """A worker begins a new segment where the next lines do not fit."""
    segment_seconds: float = Field(gt=0)
    """Or when its first line is this old."""
    on_failure: OnFailure
    hash_clients: bool
    """With the key in DECISION_LOG_KEY or DECISION_LOG_KEY_FILE; false leaves the clients out."""
    settle_seconds: float = Field(ge=1)
    """A finished segment is left alone for so long, in which the drift counts catch up with it."""
    retention_days: int = Field(ge=1)


OWNER_ONLY = 0o600
"""Mode of every file that holds applicants' figures, whatever the umask is."""
_BLOCK = 1 << 20


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


class DecisionLogWriter:
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


class Segment:
    """A file whose space was allocated before anything is written into it, so that a request waits for no disk.

    What has been written is in the page cache: it survives the end of the process, however that comes.

    Attributes
    ----------
    used : bytes, the header's included
    lines : how many were written after the header
    """

    def __init__(self, path: Path, number: int, descriptor: int, size: int) -> None:
        self.path = path
        self.number = number
        self.used = 0
        self.lines = 0
        self._descriptor = descriptor
        self._size = size
        self._made = os.fstat(descriptor)

    @classmethod
    def allocate(cls, path: Path, number: int, size: int, header: bytes) -> Self:
        """A new segment, locked, with its header; OSError, and nothing left behind, if there is no room for it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        try:
            os.fchmod(descriptor, OWNER_ONLY)
            take_lock(descriptor)  # who looks whether it is held has it for a moment only
            os.posix_fallocate(descriptor, 0, size)
            segment = cls(path, number, descriptor, size)
            segment._put(header)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return segment

    def fits(self, lines: bytes) -> bool:
        """Whether there is allocated room for the lines."""
        return self.used + len(lines) <= self._size

    def write(self, lines: bytes) -> bool:
        """Append the lines whole; OSError if that fails. False, and they are taken back, if the file is not there."""
        before = self.used
        self._put(lines)
        if not self.intact():
            self.used = before
            os.ftruncate(self._descriptor, before)
            return False
        self.lines += lines.count(b"\n")
        return True

    def intact(self) -> bool:
        """Whether the file is still in its place, with all that was written into it."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return os.path.samestat(found, self._made) and found.st_size >= max(self.used, self._size)

    def missing(self) -> int:
        """How many of the lines are no longer in its place."""
        with suppress(OSError):
            if os.path.samestat(os.lstat(self.path), self._made):
                return max(0, self.lines - max(0, self._whole_lines() - 1))
        return self.lines

    def _whole_lines(self) -> int:
        size, at, found = os.fstat(self._descriptor).st_size, 0, 0
        while at < min(size, self.used):
            block = os.pread(self._descriptor, min(_BLOCK, self.used - at), at)
            if not block:
                break
            at, found = at + len(block), found + block.count(b"\n")
        return found

    def _put(self, lines: bytes) -> None:
        rest = memoryview(lines)
        at = self.used
        while rest:
            written = os.pwrite(self._descriptor, rest, at)
            rest, at = rest[written:], at + written
        self.used = at

    def finish(self) -> None:
        """Cut off what was not used and let go of the file."""
        try:
            with suppress(OSError):  # then the unused end stays, which readers do not mind
                os.ftruncate(self._descriptor, self.used)
        finally:
            os.close(self._descriptor)
