"""Finds recorded decisions by request id: open segments are searched by bytes, closed ones by a small index.

DIR/index/<name of the segment>    9 bytes a decision, sorted: 8 of BLAKE2b of request id and index, 1 of the decision

The service reads the indexes, since its image cannot read Parquet. `close` writes one for each closed segment.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from decision_log.errors import SegmentError
from decision_log.format import decoded
from decision_log.segments import OPEN, OPEN_SUFFIX, Listing, opened
from decision_log.writer import OWNER_ONLY
from jobs.output import replaced
from scoring.policy import DecisionKind

INDEX = "index"
"""The folder of a log with the indexes of closed segments."""
_OWNER_ONLY_FOLDER = 0o700
_HASH_BYTES = 8
_ROW_BYTES = _HASH_BYTES + 1
_KINDS = tuple(DecisionKind)
_BLOCK = 1 << 18
"""Bytes that are searched at once: a search holds the interpreter's lock, and requests wait meanwhile."""
_LONGEST_LINE = 1 << 20
_BEFORE = 4_096
"""Bytes in front of a request id that hold the beginning of its line."""


class FoundDecision(NamedTuple):
    """A recorded decision, and its time as it is written; None for one in a closed segment, whose index has no time."""

    decision: DecisionKind
    time: str | None


def newest_decision(directory: Path, request_id: str, index: int) -> FoundDecision | None:
    """Return the newest decision on an application in a log; None if none is recorded. Damaged files are passed over.

    A decision in an open segment counts as newer than one in a closed segment.
    """
    # Open segments first: one that is closed meanwhile is found by its index, which is written before it vanishes.
    written = [found for path in Listing.of(directory).open if (found := _in_open(path, request_id, index))]
    if written:
        return max(written, key=lambda found: found.time or "")
    row = _hash_of(request_id, index)
    for path in sorted(_indexes(directory), reverse=True):
        with suppress(FileNotFoundError, SegmentError, ValueError):
            decision = _in_index(path, row)
            if decision is not None:
                return FoundDecision(decision, None)
    return None


def _in_open(path: Path, request_id: str, index: int) -> FoundDecision | None:
    needle = f'"request_id":"{request_id}","index":{index},'.encode()
    with suppress(FileNotFoundError, SegmentError):
        values = decoded(_last_line(path, needle))
        if values is not None and (values.get("request_id"), values.get("index")) == (request_id, index):
            return FoundDecision(DecisionKind(values["decision"]), values["time"])
    return None


def _last_line(path: Path, needle: bytes) -> bytes:
    """Return the last line of a segment that holds the bytes; empty if there is none."""
    with opened(path) as file:
        if file.read(1) != b"{":  # allocated ahead, and nothing but zeros
            return b""
        at, rest = file.seek(0, os.SEEK_END), b""
        while at:
            start = max(0, at - _BLOCK)
            file.seek(start)
            block = file.read(at - start) + rest
            found = block.rfind(needle)
            if found >= 0:
                return _line_around(file, start + found)
            at, rest = start, block[: len(needle) - 1]
    return b""


def _line_around(file: BinaryIO, place: int) -> bytes:
    """Return the whole line around a place in a file; empty if it has no end, since nobody got its answer."""
    first = max(0, place - _BEFORE)
    file.seek(first)
    file.seek(first + file.read(place - first).rfind(b"\n") + 1)
    line = file.readline(_LONGEST_LINE)
    return line if line.endswith(b"\n") else b""


def _hash_of(request_id: str, index: int) -> bytes:
    return blake2b(f"{request_id}\n{index}".encode(), digest_size=_HASH_BYTES).digest()


def _indexes(directory: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return [path for path in (directory / INDEX).iterdir() if not path.name.startswith(".")]
    return []


class _Hashes:
    """The hashes of an index, as a sequence that reads only what it is asked for."""

    def __init__(self, rows: mmap.mmap) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows) // _ROW_BYTES

    def __getitem__(self, number: int) -> bytes:
        return self._rows[number * _ROW_BYTES : number * _ROW_BYTES + _HASH_BYTES]


def _in_index(path: Path, row: bytes) -> DecisionKind | None:
    """Return the last decision with the hash; ValueError if the file is empty or holds no decision there."""
    with opened(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as rows:
        hashes = _Hashes(rows)
        place = bisect_right(hashes, row) - 1
        if place < 0 or hashes[place] != row:
            return None
        kind = rows[place * _ROW_BYTES + _HASH_BYTES]
        if kind >= len(_KINDS):
            raise ValueError("no decision")
        return _KINDS[kind]


def write_index(directory: Path, segment: str, decisions: Iterable[tuple[str, int, str]]) -> None:
    """Write the index of a closed segment: request id, index and decision of each of its rows, in their order."""
    kinds = {str(kind): bytes([code]) for code, kind in enumerate(_KINDS)}
    rows = [_hash_of(request_id, index) + kinds[decision] for request_id, index, decision in decisions]
    # The sort keeps the order of rows with one hash, so that the newest stays the last.
    rows.sort(key=lambda row: row[:_HASH_BYTES])
    folder = directory / INDEX
    folder.mkdir(mode=_OWNER_ONLY_FOLDER, exist_ok=True)
    with replaced(folder / segment, mode=OWNER_ONLY) as file:
        file.write(b"".join(rows))


def unindexed(directory: Path, closed: Iterable[Path]) -> list[Path]:
    """Return the closed segments without an index, and remove the indexes of segments that are gone."""
    segments = {path.stem: path for path in closed}
    known = {path.name: path for path in _indexes(directory)}
    for name in known.keys() - segments.keys():
        # A segment that is being closed has its index already.
        if not (directory / OPEN / f"{name}{OPEN_SUFFIX}").exists():
            known[name].unlink(missing_ok=True)
    return [segments[name] for name in sorted(segments.keys() - known.keys())]
