"""The files of a decision log, which are called segments: how they are named, found, locked and read.

DIR/open/<start>-<host>-<pid>-<n>.jsonl     lines of the worker that started then, n = 0, 1, ...; see `format`
DIR/closed/<the same>.parquet               the same decisions, after `python -m monitoring close`
DIR/aside/<when>-<name>                     files of the two folders that `close` could not read whole
DIR/shadow/                                 a log of its own: what challengers in shadow would have decided

A worker locks its open segments. The system releases the locks when the worker ends, however it ends. Zeros fill the
unused end of an open segment.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from decision_log.errors import SegmentError
from decision_log.format import Header, decoded, is_decision
from jobs.output import take_lock

OPEN = "open"
CLOSED = "closed"
ASIDE = "aside"
SHADOW = "shadow"
"""The folder in a log that is a log of its own: what challengers would have decided."""
OPEN_SUFFIX = ".jsonl"
CLOSED_SUFFIX = ".parquet"
_LONGEST_LINE = 1 << 20
"""Bytes read at once; a damaged file without line ends would otherwise be read into memory whole."""
_NAME = r"\d{8}T\d{12}Z-[\w.-]{1,255}-\d{1,10}"
_WORKER = re.compile(_NAME, re.ASCII)
# A worker that is killed while it begins a segment leaves a part of the header, or nothing but zeros.
_TORN_HEADER = re.compile(rb'(\{"format":[^\0]*)?\0*')
_STEM = rf"{_NAME}-\d{{1,10}}"
_OPEN, _CLOSED = (re.compile(_STEM + re.escape(suffix), re.ASCII) for suffix in (OPEN_SUFFIX, CLOSED_SUFFIX))


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A worker: when it started (UTC, no punctuation), its host and its process id."""

    # In containers the host and the process id are often the same after a restart; the start tells them apart.

    start: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.start}-{self.host}-{self.pid}"

    def segment(self, directory: Path, number: int) -> Path:
        """The path of this worker's segment of that number while it is open."""
        return directory / OPEN / f"{self}-{number}{OPEN_SUFFIX}"

    def segments(self, directory: Path) -> dict[int, Path]:
        """The open segments of this worker by rising number; some may be missing."""
        found = {}
        for path in Listing.of(directory).open:
            worker, _, number = path.stem.rpartition("-")
            if worker == str(self):
                found[int(number)] = path
        return dict(sorted(found.items()))

    @classmethod
    def this(cls) -> Self:
        """This process, as a worker that starts now."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)
        return cls(datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ"), host, os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a worker from its text; ValueError if it is none."""
        if not _WORKER.fullmatch(text):
            raise ValueError("not a worker")
        start, rest = text.split("-", 1)
        host, pid = rest.rsplit("-", 1)
        return cls(start, host, int(pid))


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments of a decision log, each once, in the order of their names, and the other files beside them.

    Names that begin with a dot are scratch files of a writer, and are left out.
    """

    open: tuple[Path, ...]
    closed: tuple[Path, ...]
    closing: tuple[Path, ...]
    """Open segments that have a closed one already."""
    others: tuple[Path, ...]

    @classmethod
    def of(cls, directory: Path) -> Self:
        """List the directory; a segment that is in both folders counts as closed."""
        # The order matters: a segment that is closed between the two scans is in both lists. The other way round it
        # could be in neither, and its decisions would be missing.
        begun, others = _segments_and_others(directory / OPEN, _OPEN)
        closed, more_others = _segments_and_others(directory / CLOSED, _CLOSED)
        stems = {path.stem for path in closed}
        waiting = tuple(path for path in begun if path.stem not in stems)
        closing = tuple(path for path in begun if path.stem in stems)
        return cls(waiting, tuple(closed), closing, (*others, *more_others))


def _segments_and_others(folder: Path, names: re.Pattern[str]) -> tuple[list[Path], list[Path]]:
    """The segments in a folder and everything else in it; both empty if there is no folder."""
    segments: list[Path] = []
    others: list[Path] = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            known = names.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            (segments if known else others).append(folder / entry.name)
    return sorted(segments), sorted(others)


def read_header(path: Path) -> Header | None:
    """The header of an open segment; None if it was not written whole; SegmentError for another file."""
    with opened(path) as file:
        line = file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n") and _TORN_HEADER.fullmatch(line) and not _skipped(line, file).damaged:
            return None
    try:
        return Header.parse(line)
    except ValueError:
        raise SegmentError("its first line is no header of a decision log") from None


def first_line(path: Path) -> bytes:
    """The first line of an open segment as it is stored, with its end."""
    with opened(path) as file:
        return file.readline(_LONGEST_LINE)


def read_raw(path: Path, offset: int = 0, damaged: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    """The lines of an open segment without their ends, from a byte on; the header is left out.

    SegmentError if it cannot be read. `damaged` is called for bytes that are no line, except a last one without an end.
    """
    with opened(path) as file:
        file.seek(offset)
        if not offset:
            file.readline(_LONGEST_LINE)
        while line := file.readline(_LONGEST_LINE):
            # A last line without an end is no damage: its worker was killed while writing, so nobody got the answer.
            if not line.endswith(b"\n"):
                skipped = _skipped(line, file)
                if skipped.damaged:
                    damaged()
                if skipped.ended:
                    continue
                return
            yield line[:-1]


def read_lines(path: Path, offset: int = 0, damaged: Callable[[], object] = lambda: None) -> Iterator[dict[str, Any]]:
    """The JSON objects of an open segment, one a line, from a byte on; SegmentError if it cannot be read.

    `damaged` is called for every line that is no JSON object, except a last line without an end.
    """
    for line in read_raw(path, offset, damaged):
        values = decoded(line)
        if values is None:
            damaged()
        else:
            yield values


class _Skipped(NamedTuple):
    ended: bool
    """Whether the line has an end further on."""
    damaged: bool
    """Whether anything but zeros follows the first zero, which the unused end of a segment does not have."""


def _skipped(line: bytes, file: BinaryIO) -> _Skipped:
    """Read on to the end of a line that is too long or has no end."""
    anything = bool(line.partition(b"\0")[2].strip(b"\0"))
    while more := file.readline(_LONGEST_LINE):
        anything = anything or bool(more.strip(b"\0"))
        if more.endswith(b"\n"):
            return _Skipped(ended=True, damaged=True)
    return _Skipped(ended=False, damaged=anything)


def read_decisions(
    path: Path, header: Header, offset: int = 0, damaged: Callable[[], object] = lambda: None
) -> Iterator[dict[str, Any]]:
    """The decisions in an open segment with that header; `damaged` is called for every other line but erased ones."""
    for line in read_lines(path, offset, damaged):
        if is_decision(line, header):
            yield line
        elif line.keys() != {"erased"}:
            damaged()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; SegmentError if it is another kind of file or cannot be read.

    FileNotFoundError if it is not there: then it was closed, or is aside. Never waits.
    """
    try:
        # Anybody who may write into the folder may plant a pipe, which would be waited for (O_NONBLOCK), or a link to a
        # file elsewhere, which would be read as decisions (O_NOFOLLOW).
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SegmentError("it is no regular file")
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SegmentError(f"it cannot be read ({os.strerror(error.errno or errno.EIO)})") from None


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a segment during the block; yields False if a worker still writes it, or it is gone.

    SegmentError if it cannot be read.
    """
    # The lock is flock's: the system releases it when a worker ends, also by kill -9. A process id would mean nothing
    # in another container, and a POSIX lock (fcntl) would end as soon as any descriptor of the file is closed.
    with ExitStack() as stack:
        try:
            file = stack.enter_context(opened(path))
        except FileNotFoundError:
            yield False
            return
        yield take_lock(file, wait=False) and path.exists()  # it may have been closed while it was opened here


class Ages(NamedTuple):
    """The ages of the oldest segment in use and of the oldest finished one; None for no such segment.

    Attributes
    ----------
    written : time of the first decision, of the segments that workers of one host still write
    finished : time of the last write, of the segments that nobody writes any more
    """

    written: datetime | None
    finished: datetime | None

    @classmethod
    def of(cls, directory: Path, host: str) -> Self:
        """The ages in a decision log; other files are passed over."""
        written, finished = [], []
        for path in Listing.of(directory).open:
            with suppress(SegmentError, FileNotFoundError), claimed(path) as free:
                if free:
                    finished.append(datetime.fromtimestamp(path.stat().st_mtime, UTC))
                elif WorkerId.parse(path.stem.rpartition("-")[0]).host == host and (begun := _begun(path)):
                    written.append(begun)
        return cls(min(written, default=None), min(finished, default=None))


def _begun(path: Path) -> datetime | None:
    header = read_header(path)
    first = next(read_decisions(path, header), None) if header else None
    return datetime.fromisoformat(first["time"]) if first else None
