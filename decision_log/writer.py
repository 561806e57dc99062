"""The writer of the decision log: each worker appends lines to segments of its own."""

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

from decision_log.checkpoints import HASH_BYTES, CheckpointSettings, Extent, MerkleTree, header_hash, leaf_hash
from decision_log.durability import Durability, UnconfirmedFiles
from decision_log.errors import DecisionLogError
from decision_log.format import Header, SegmentBefore
from decision_log.segments import CLOSED, OPEN, WorkerId
from jobs.heartbeat import Heartbeat
from jobs.output import flush_folder, take_lock
from jobs.settings import Settings

_LOGGER = logging.getLogger("bentoml.credit_scoring")


_RETRY_SECONDS = 1.0
_CHECK_SECONDS = 0.5
"""Between two checks whether the segments are still in their places."""
_OWNER_ONLY_FOLDER = 0o700
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OnFailure(StrEnum):
    """What happens to a request whose line cannot be written."""

    DROP = "drop"
    """The request is answered, and the missing line is counted."""
    REFUSE = "refuse"
    """The request is answered with 503 and counted: every decision that a caller gets is recorded."""


class LogSettings(Settings):
    """The decision log, kept in the folder that DECISION_LOG_DIR names; without that variable there is none."""

    segment_bytes: int = Field(ge=1 << 16)
    """A worker begins a new segment if the next lines do not fit."""
    segment_seconds: float = Field(gt=0)
    """It also begins a new one when the first line is this old."""
    on_failure: OnFailure
    durability: Durability
    hash_clients: bool
    """Whether lines hold hashed client ids, with the key in DECISION_LOG_KEY or DECISION_LOG_KEY_FILE."""
    settle_seconds: float = Field(ge=1)
    """How long `close` leaves a finished segment alone, so that the drift counts can catch up."""
    retention_days: int = Field(ge=1)
    checkpoints: CheckpointSettings
    """When a worker signs what it has written, if RECORD_KEY_FILE names a key."""

    ship: str | None
    """The folder or fsspec address that `close` copies closed segments to."""

    @property
    def refuses(self) -> bool:
        """Whether a decision is refused whose line cannot be written."""
        return self.on_failure is OnFailure.REFUSE and self.durability is not Durability.NONE


OWNER_ONLY = 0o600
"""Mode of every file that holds applicants' figures, whatever the umask is: only their owner reads and writes them."""
_BLOCK = 1 << 20


class Failure(StrEnum):
    """Why a line could not be written, or is lost."""

    NO_SPACE = "no_space"
    IO = "io"
    REMOVED = "removed"
    """The line was written, and then its file was removed, moved, replaced or cut short."""
    UNCONFIRMED = "unconfirmed"
    """The line was written, and the disk did not confirm it."""


class Position(NamedTuple):
    """A place in the lines of one worker: the number of a segment, and a byte in it."""

    segment: int
    offset: int


class DecisionLogWriter:
    """Appends lines to the segments of this worker; the next segment is always allocated already.

    A thread allocates and finishes segments. `append` only copies lines into the page cache and checks that the file is
    still in its place. If it is not, its lines are lost, and the next segment takes over.

    Parameters
    ----------
    directory : of the log; DecisionLogError if it cannot be made
    header : first line of every segment, where it names the segment before as well
    lost : called with the number of lines that were written and then lost
    heartbeat : of the thread
    attested : whether checkpoints are made, so that somebody calls `take`

    Attributes
    ----------
    due : set when so many records are new that they should have a checkpoint
    unconfirmed : files that the disk has not confirmed, if the settings ask for its confirmation; otherwise None
    """

    def __init__(
        self,
        directory: Path,
        worker: WorkerId,
        header: Header,
        settings: LogSettings,
        *,
        lost: Callable[[int], object] = lambda _: None,
        heartbeat: Heartbeat | None = None,
        attested: bool = False,
    ) -> None:
        self.directory = directory
        self._worker = worker
        self._header = header
        self._settings = settings
        self._lost = lost
        self._heartbeat = heartbeat or Heartbeat("decision-log", registry=CollectorRegistry())
        # `append` runs before every answer and needs `_lock`. Allocating waits for the disk, so it has a lock of its
        # own: a request waits for it only if no segment is left. Whoever needs both takes `_lock` first.
        self._lock = threading.Lock()
        self._numbering = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._current: Segment | None = None
        self._next: Segment | None = None
        self._finished: list[Segment] = []
        self._previous: SegmentBefore | None = None
        self._attested = attested
        self._left: list[Segment] = []
        self._ended = False
        self.due = threading.Event()
        self.unconfirmed = UnconfirmedFiles() if settings.durability is Durability.POWER else None
        self._allocated = 0
        self._first_line: float | None = None
        self._failure: Failure | None = None
        self._stopping = False
        make_folders(directory)
        self._allocate()
        if attested:  # begun before any line, so that a checkpoint can name it before anybody is answered
            with self._changed:
                self._begin_next()
        self._thread = threading.Thread(target=self._keep_ready, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def age(self) -> float:
        """Seconds since the first line of the current segment; 0 before the first line."""
        # the monotonic clock, since the wall clock of a server may jump: segments would then never end, or at once
        first = self._first_line
        return 0.0 if first is None else time.monotonic() - first

    @property
    def missing(self) -> Failure | None:
        """Why no line can be written at present; None if lines can be written."""
        with self._lock:
            return self._failure if self._current is None and self._next is None else None

    def append(self, lines: bytes) -> Position | Failure:
        """Append all of the lines or none; returns where they end, or why they could not be written."""
        with self._lock:
            if self._current is None or (self._next is not None and not self._current.fits(lines)):
                self._begin_next()
            try:
                if self._current is None or not self._current.write(lines):
                    self._drop_missing()
                    self._replace(lines)
            except OSError as error:
                # finishing the segment cuts off what was written of these lines, so that none of them is read
                self._begin_next()
                return self._failed(error)
            if self._current is None:
                return self._failure or Failure.IO
            self._note(self._current)
            return Position(self._current.number, self._current.used)

    def _note(self, segment: Segment) -> None:
        """Note that the segment has new lines."""
        if self._first_line is None:
            self._first_line = time.monotonic()
        if self.unconfirmed is not None:
            self.unconfirmed.add(segment.number, segment.descriptor)
        if not self._attested:
            segment.hashes.clear()
        elif len(segment.hashes) >= self._settings.checkpoints.records * HASH_BYTES:
            self.due.set()

    def _replace(self, lines: bytes) -> None:
        """Write the lines into another segment, since the current one is gone."""
        if self._current is None and self._next is None and self._failure is None:
            self._next = self._allocated_now()
        if self._current is None:
            self._begin_next()
        if self._current is not None and not self._current.write(lines):
            self._drop_missing()

    def _drop_missing(self) -> None:
        """Give up the segments that are not in their places any more, and report the lines that are lost."""
        for segment in (self._current, self._next):
            if segment is None or segment.intact():
                continue
            lines = segment.missing()
            if segment is self._current:
                self._current, self._first_line = None, None
            else:
                self._next = None
            self._leave(segment)
            self._changed.notify()
            _LOGGER.error("the decision log: %s was removed, replaced or cut short; %d lines lost", segment.path, lines)
            if lines:
                self._lost(lines)

    def close(self) -> None:
        """Finish all segments; nothing may be appended afterwards."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        with self._changed:
            self._drop_missing()
            for segment in (self._current, self._next):
                if (
                    segment is not None and not segment.lines
                ):  # it was begun or allocated ahead, and nobody needs it now
                    segment.path.unlink(missing_ok=True)
            if self._next is not None:
                self._finished.append(self._next)
                self._next = None
            self._begin_next()
            self._ended = True
        self._finish()

    def _begin_next(self) -> None:
        """Finish the current segment and begin the next one, if there is one."""
        if self._current is not None:
            self._leave(self._current)
        if self._current is not self._next:
            self._changed.notify()
        self._current, self._next = self._next, None
        self._first_line = None
        if self._current is not None:
            self.due.set()
            try:
                self._current.begin(self._header.after(self._previous))
            except OSError as error:
                self._finished.append(self._current)
                self._current = None
                self._failed(error)

    def _leave(self, segment: Segment) -> None:
        """Write no more into a segment, also one that is gone: the next header names it with the lines that it had."""
        self._finished.append(segment)
        if segment.lines:
            if self._attested:
                self._left.append(segment)
            self._previous = SegmentBefore(segment.path.stem, segment.lines, segment.tree.root().hex())

    def take(self) -> list[Extent]:
        """How far each segment has been written that has begun, has new lines or has ended since the call before.

        A closed writer adds that the segment after its last one has no record: whatever has that name is not its own.
        """
        with self._lock:
            left, self._left = self._left, []
            current = self._current
            growing = [current] if current is not None and (current.hashes or not current.told) else []
            found = [segment.progress(finished=True) for segment in left]
            found += [segment.progress(finished=False) for segment in growing]
            if self._ended:
                self._ended = False
                found.append(Extent.of_none(self._worker.segment(self.directory, self._allocated).stem))
            return found

    def _keep_ready(self) -> None:
        """Prepare segments until the writer closes; the thread outlives every error: nobody would start it again."""
        while not self._stopping:
            with self._heartbeat.guarded():
                self._prepare()
            if self._heartbeat.failing:
                time.sleep(_RETRY_SECONDS)
        self._heartbeat.rest()

    def _prepare(self) -> None:
        with self._changed:
            if self._idle():
                self._changed.wait(self._pause())
            if self._stopping:
                return
            self._drop_missing()
            if self._next is not None and self.age >= self._settings.segment_seconds:
                self._begin_next()
        self._finish()
        if self._next is None:
            self._allocate()

    def _idle(self) -> bool:
        """Whether the thread has nothing to do at present."""
        ready = self._next is not None or self._failure is not None
        return ready and not self._finished and not self._stopping

    def _pause(self) -> float:
        """Seconds until the thread looks again, unless it is notified before."""
        if self._next is None:
            return _RETRY_SECONDS
        return min(_CHECK_SECONDS, max(0.0, self._settings.segment_seconds - self.age))

    def _finish(self) -> None:
        while self._finished:
            self._finished.pop().finish()

    def _allocate(self) -> None:
        """Allocate the next segment; outside of the lock, since it may take long."""
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
        segment.path.unlink(missing_ok=True)  # a request could not wait for it and allocated one itself
        segment.finish()

    def _allocated_now(self) -> Segment:
        with self._numbering:
            number = self._allocated
            path = self._worker.segment(self.directory, number)
            if not path.parent.is_dir():
                _make_folders(self.directory)
            segment = Segment.allocate(path, number, self._settings.segment_bytes)
            if self.unconfirmed is not None:  # the name of the file must survive a power cut as well as its lines
                flush_folder(path.parent)
            self._allocated = number + 1
            return segment

    def _failed(self, error: OSError) -> Failure:
        """Remember the reason, and log it once until writing works again."""
        failure = Failure.NO_SPACE if error.errno in _NO_SPACE else Failure.IO
        if failure is not self._failure:
            _LOGGER.error("the decision log cannot be written: %s", os.strerror(error.errno or errno.EIO))
        self._failure = failure
        return failure


def make_folders(directory: Path) -> None:
    """Make the folders of a log; DecisionLogError if no log can be kept there."""
    try:
        _make_folders(directory)
    except OSError as error:
        raise DecisionLogError(f"{directory}: no decision log can be kept there ({error.strerror})") from None
    if not os.access(directory / OPEN, os.W_OK | os.X_OK):
        raise DecisionLogError(f"{directory}: no decision log can be kept there (not writable)")


def _make_folders(directory: Path) -> None:
    """Make the folders for their owner only, and take others' rights from folders that exist, where permitted."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # mkdir applies the umask to its mode, chmod does not. A directory that exists keeps its rights: it may be a
        # mount that others use too.
        directory.mkdir(mode=_OWNER_ONLY_FOLDER)
        directory.chmod(_OWNER_ONLY_FOLDER)
    for name in (OPEN, CLOSED):
        (directory / name).mkdir(mode=_OWNER_ONLY_FOLDER, exist_ok=True)
        with suppress(PermissionError):  # the folder belongs to another user
            (directory / name).chmod(_OWNER_ONLY_FOLDER)


class Segment:
    """A file whose space is allocated before lines are written, so that no request waits for a disk.

    Lines are in the page cache, which belongs to the system: they survive the end of the process, also by kill -9.

    Attributes
    ----------
    used : bytes, the header's included
    lines : how many were written after the header
    tree : Merkle tree over these lines
    hashes : of the lines since the last `progress`, one after another
    told : whether `progress` was called
    """

    # No fsync for each line: a power cut may lose the last lines, but a disk's confirmation would hold up every answer.

    def __init__(self, path: Path, number: int, descriptor: int, size: int) -> None:
        self.path = path
        self.number = number
        self.used = 0
        self.lines = 0
        self.tree = MerkleTree()
        self.hashes = bytearray()
        self.told = False
        self._header = b""
        self._before: SegmentBefore | None = None
        self.descriptor = descriptor
        self._size = size
        self._made = os.fstat(descriptor)

    @classmethod
    def allocate(cls, path: Path, number: int, size: int) -> Self:
        """Make a segment, locked and without a header; OSError if there is no room, and then no file is left behind."""
        # O_EXCL refuses a file or a link that somebody planted under this name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        try:
            os.fchmod(descriptor, OWNER_ONLY)
            take_lock(descriptor)  # a reader that tests the lock holds it for a moment only
            # posix_fallocate and not truncate, which makes a hole: a full disk would be met by a request then
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, number, descriptor, size)

    def begin(self, header: Header) -> None:
        """Write the header, which names the segment before: it is known only when that one is full."""
        line = header.line()
        self._put(line)
        self._header, self._before = header_hash(line), header.previous

    def progress(self, *, finished: bool) -> Extent:
        """How far it has been written, with the hashes since the last call."""
        hashes, self.hashes, self.told = bytes(self.hashes), bytearray(), True
        return Extent(self.path.stem, self.lines, self.tree.root(), self._header, self._before, hashes, finished)

    def fits(self, lines: bytes) -> bool:
        """Whether there is allocated room for the lines."""
        return self.used + len(lines) <= self._size

    def write(self, lines: bytes) -> bool:
        """Append the lines; OSError if that fails. False if the file is gone, and then the lines are taken back."""
        before = self.used
        # First written, then checked: the file was in its place with the lines in it, so the answer may leave.
        self._put(lines)
        if not self.intact():
            # the lines go into another segment: a file that was only moved, and comes back, must not hold them too
            self.used = before
            os.ftruncate(self.descriptor, before)
            return False
        for line in lines[:-1].split(b"\n"):
            leaf = leaf_hash(line)
            self.tree.add(leaf)
            self.hashes += leaf
        self.lines = self.tree.size
        return True

    def intact(self) -> bool:
        """Whether the file is still in its place and has its full size."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return os.path.samestat(found, self._made) and found.st_size >= max(self.used, self._size)

    def missing(self) -> int:
        """How many of the written lines are lost."""
        with suppress(OSError):
            if os.path.samestat(os.lstat(self.path), self._made):
                return max(0, self.lines - max(0, self._whole_lines() - 1))
        return self.lines

    def _whole_lines(self) -> int:
        size, at, found = os.fstat(self.descriptor).st_size, 0, 0
        while at < min(size, self.used):
            block = os.pread(self.descriptor, min(_BLOCK, self.used - at), at)
            if not block:
                break
            at, found = at + len(block), found + block.count(b"\n")
        return found

    def _put(self, lines: bytes) -> None:
        rest = memoryview(lines)
        at = self.used
        while rest:  # pwrite may write less than it was given, at a limit of file size for one
            written = os.pwrite(self.descriptor, rest, at)
            rest, at = rest[written:], at + written
        self.used = at

    def finish(self) -> None:
        """Cut off the unused end and release the file with its lock."""
        try:
            with suppress(OSError):  # then the unused end stays, and readers skip its zeros
                os.ftruncate(self.descriptor, self.used)
        finally:
            os.close(self.descriptor)
