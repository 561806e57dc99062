"""The files of a decision log.

DIR/open/<start>-<host>-<pid>-<n>.jsonl     what a worker that started then has written, n = 0, 1, ...; see `decision`
DIR/closed/<the same>.parquet               the same decisions, once `python -m monitoring close` has closed the segment

A worker holds a lock on the segments it has open, which the system takes back when the worker ends, however it ends.
The unused end of an open segment is zeros.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from .decision import Header

OPEN = "open"
CLOSED = "closed"
OPEN_SUFFIX = ".jsonl"
CLOSED_SUFFIX = ".parquet"
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A worker: when it started (UTC, no punctuation), its host and its process id."""

    start: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.start}-{self.host}-{self.pid}"

    def segment(self, directory: Path, number: int) -> Path:
        """Where this worker's segment of that number is while it is open."""
        return directory / OPEN / f"{self}-{number}{OPEN_SUFFIX}"

    @classmethod
    def this(cls) -> Self:
        """The process that asks, as a worker that starts now."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        return cls(datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ"), host, os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The worker that is written like this; ValueError if none is."""
        start, rest = text.split("-", 1)
        host, pid = rest.rsplit("-", 1)
        return cls(start, host, int(pid))


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments of a decision log, each once, in the order of their names."""

    open: tuple[Path, ...]
    closed: tuple[Path, ...]

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The segments in the directory; one that is being closed counts as closed."""
        first = sorted((directory / OPEN).glob(f"*{OPEN_SUFFIX}"))  # first: what is closed meanwhile is seen below
        closed = sorted((directory / CLOSED).glob(f"[!.]*{CLOSED_SUFFIX}"))
        stems = {path.stem for path in closed}
        return cls(tuple(path for path in first if path.stem not in stems), tuple(closed))


def read_header(path: Path) -> Header | None:
    """The header of an open segment, None where it was not written any more; ValueError if it is another file."""
    with path.open("rb") as file:
        line = file.readline(_LONGEST_LINE)
    return Header.parse(line) if line.endswith(b"\n") else None


def read_lines(path: Path, offset: int = 0) -> Iterator[dict[str, Any]]:
    """The decisions in an open segment, or those from a byte on. A line without end is of no answered request."""
    with path.open("rb") as file:
        file.seek(offset)
        if not offset:
            file.readline(_LONGEST_LINE)
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            yield json.loads(line)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether nobody else has the file; if so, nobody can take it until the end of the block."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield path.exists()  # it may have been closed while it was opened here


def oldest_held(directory: Path, host: str) -> datetime | None:
    """When the oldest of the segments that workers of this host still write was begun; None if they have no line."""
    begun = []
    for path in (directory / OPEN).glob(f"*-{host}-*{OPEN_SUFFIX}"):
        line = next(read_lines(path), None)
        with claimed(path) as ours:
            if line is not None and not ours:
                begun.append(datetime.fromisoformat(line["time"]))
    return min(begun, default=None)
