"""Overrides: what a person decided in the place of the model, each a record of its own, and how the decision is found.

DIR/overrides/open/<start>-<host>-<pid>-<n>.jsonl    small segments of the worker whose first override came then
DIR/overrides/seals/<the same>                       the last checkpoint of each
DIR/index/<name of a closed segment>.rows            17 bytes a decision, sorted: 8 of BLAKE2b of request id and index,
                                                     8 of its time in microseconds since 1970, 1 of the decision

The segments have the form, the hashes and the checkpoints of the decision log. The `features` of their headers are the
fields of a line: salt, request_id, index, timestamp, actor, was, decision, reason. They are never closed into Parquet.
A decision is searched by bytes in open segments and by index in closed ones: the image cannot read Parquet.
"""

from __future__ import annotations

import mmap
import os
import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from json import dumps
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from prometheus_client import REGISTRY, CollectorRegistry

from decision_log.errors import DecisionLogError, NotRecordedError, SegmentError, StandsError, UnknownDecisionError
from decision_log.format import Header, decoded
from decision_log.notary import ADDRESS_VARIABLE, SEALS, Checkpointer, Notary
from decision_log.segments import OPEN, OPEN_SUFFIX, Listing, WorkerId, claimed, first_line, opened, read_raw
from decision_log.writer import OWNER_ONLY, DecisionLogWriter, Failure, LogSettings
from jobs.heartbeat import Heartbeat
from jobs.output import locked, replaced
from scoring.policy import DecisionKind

INDEX = "index"
"""The folder of a log with the indexes of closed segments."""
_OWNER_ONLY_FOLDER = 0o700
_ROWS = ".rows"
"""The end of an index's name. Older versions wrote indexes without it, whose rows have no time."""
_HASH_BYTES = _TIME_BYTES = 8
_ROW_BYTES = _HASH_BYTES + _TIME_BYTES + 1
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_KINDS = tuple(DecisionKind)
_BLOCK = 1 << 18
"""Bytes that are searched at once: a search holds the interpreter's lock, and requests wait meanwhile."""
_LONGEST_LINE = 1 << 20
_BEFORE = 4_096
"""Bytes in front of a request id that hold the beginning of its line."""


class FoundDecision(NamedTuple):
    """A recorded decision, and its time as it is written."""

    decision: DecisionKind
    time: str


def newest_decision(directory: Path, request_id: str, index: int) -> FoundDecision | None:
    """Return the decision on an application with the latest time; None if none is recorded.

    Damaged files are passed over. Of several in one segment the last one counts.
    """
    # Open segments first: one that is closed meanwhile is found by its index, which is written before it vanishes.
    written = [_in_open(path, request_id, index) for path in Listing.of(directory).open]
    row = _hash_of(request_id, index)
    for path in _indexes(directory):
        if path.suffix == _ROWS:
            with suppress(FileNotFoundError, SegmentError, ValueError, OverflowError):
                written.append(_in_index(path, row))
    return max((found for found in written if found), key=lambda found: found.time, default=None)


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


def _in_index(path: Path, row: bytes) -> FoundDecision | None:
    """Return the last decision with the hash.

    ValueError or OverflowError if the file is empty or holds no decision there.
    """
    with opened(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as rows:
        hashes = _Hashes(rows)
        place = bisect_right(hashes, row) - 1
        if place < 0 or hashes[place] != row:
            return None
        *time, kind = rows[place * _ROW_BYTES + _HASH_BYTES : (place + 1) * _ROW_BYTES]
        if kind >= len(_KINDS):
            raise ValueError("no decision")
        return FoundDecision(_KINDS[kind], _written(_EPOCH + int.from_bytes(time, signed=True) * _MICROSECOND))


def _written(time: datetime) -> str:
    """A time as records hold it: RFC 3339, UTC, microseconds."""
    return f"{time.isoformat(timespec='microseconds')[:-6]}Z"


def write_index(directory: Path, segment: str, decisions: Iterable[tuple[str, int, datetime, str]]) -> None:
    """Write the index of a closed segment: request id, index, time and decision of each of its rows, in their order."""
    kinds = {str(kind): bytes([code]) for code, kind in enumerate(_KINDS)}
    rows = [
        _hash_of(request_id, index) + _microseconds(time).to_bytes(_TIME_BYTES, signed=True) + kinds[decision]
        for request_id, index, time, decision in decisions
    ]
    # The sort keeps the order of rows with one hash, so that the newest stays the last.
    rows.sort(key=lambda row: row[:_HASH_BYTES])
    folder = directory / INDEX
    folder.mkdir(mode=_OWNER_ONLY_FOLDER, exist_ok=True)
    with replaced(folder / f"{segment}{_ROWS}", mode=OWNER_ONLY) as file:
        file.write(b"".join(rows))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def unindexed(directory: Path, closed: Iterable[Path]) -> list[Path]:
    """Return the closed segments without an index, and remove the indexes of segments that are gone."""
    segments = {f"{path.stem}{_ROWS}": path for path in closed}
    known = {path.name: path for path in _indexes(directory)}
    for name in known.keys() - segments.keys():
        # A segment that is being closed has its index already.
        if not (directory / OPEN / f"{name.removesuffix(_ROWS)}{OPEN_SUFFIX}").exists():
            known[name].unlink(missing_ok=True)
    return [segments[name] for name in sorted(segments.keys() - known.keys())]


OVERRIDES = "overrides"
"""The folder of a log with the overrides, itself a log of segments."""
_LOCK = ".overrides.lock"
_SALT_BYTES = 16
_SEGMENT_BYTES = 1 << 16
_THREAD = "overrides"


@dataclass(frozen=True, slots=True)
class OverrideRecord:
    """One override.

    Attributes
    ----------
    request_id, index : of the decision
    timestamp : RFC 3339, UTC, microseconds
    actor : name of the key that the person used; None where the service needs no keys
    was, decision : the decision that stood, and the one that stands now
    reason : the person's own words
    """

    request_id: str
    index: int
    timestamp: str
    actor: str | None
    was: DecisionKind
    decision: DecisionKind
    reason: str

    def line(self) -> bytes:
        """Return the line that is written, with a new salt."""
        values = {"salt": secrets.token_hex(_SALT_BYTES), **asdict(self)}
        return dumps(values, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Read a decoded line; KeyError or ValueError if it is no override."""
        record = cls(**{name: values[name] for name in FIELDS[1:]})
        texts = (record.request_id, record.timestamp, record.actor or "", record.reason)
        if not all(isinstance(text, str) and text.isprintable() for text in texts) or type(record.index) is not int:
            raise ValueError("not an override")
        return replace(record, was=DecisionKind(record.was), decision=DecisionKind(record.decision))


FIELDS = ("salt", *(field.name for field in fields(OverrideRecord)))
"""The fields of a line, in their order."""


class OverrideReader:
    """Reads the overrides of a log, and at each look only what is new.

    Attributes
    ----------
    records : all that were read so far
    standing : the newest override of each decision, by request id and index
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / OVERRIDES
        self._read: dict[str, int] = {}
        self.records: list[OverrideRecord] = []
        self.standing: dict[tuple[str, int], OverrideRecord] = {}

    def look(self) -> None:
        """Read the lines that were written since the last look; damaged files and lines are passed over."""
        for path in Listing.of(self._directory).open:
            with suppress(FileNotFoundError, SegmentError):
                self._read_on(path)

    def _read_on(self, path: Path) -> None:
        start = self._read.get(path.stem, 0)
        with opened(path) as file:
            file.seek(start)
            whole, _, _ = file.read().rpartition(b"\n")
        if whole:
            self._read[path.stem] = start + len(whole) + 1
        for line in whole.split(b"\n"):
            values = decoded(line)
            if values is not None and "salt" in values:  # the header has none
                with suppress(KeyError, TypeError, ValueError):
                    self._keep(OverrideRecord.of(values))

    def _keep(self, record: OverrideRecord) -> None:
        self.records.append(record)
        known = self.standing.get((record.request_id, record.index))
        if known is None or known.timestamp <= record.timestamp:
            self.standing[record.request_id, record.index] = record


class OverrideLog:
    """Records overrides beside a decision log; nothing is opened before the first one.

    Parameters
    ----------
    directory : of the decision log
    header : of the decision log of the served model
    environment : names the key of the checkpoints and their address
    clock : seconds since 1970
    """

    def __init__(
        self,
        directory: Path,
        header: Header,
        settings: LogSettings,
        environment: Mapping[str, str],
        *,
        clock: Callable[[], float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._directory = directory
        self._header = replace(header, features=FIELDS)
        self._settings = settings.model_copy(update={"segment_bytes": _SEGMENT_BYTES})
        self._notary = notary_of(environment, directory)
        self._clock = clock
        self._registry = registry
        self._reader = OverrideReader(directory)
        self._writer: DecisionLogWriter | None = None
        self._checkpointer: Checkpointer | None = None

    def override(
        self, request_id: str, index: int, *, actor: str | None, decision: DecisionKind, reason: str
    ) -> OverrideRecord:
        """Record an override and return it; one thread may call this.

        UnknownDecisionError, StandsError, or a DecisionLogError if it cannot be recorded; then nothing is changed.
        """
        # Under one lock of all workers: two persons must not both override the same decision to the same. NFS locks no
        # folder, so the lock is a file.
        try:
            with locked(self._directory / _LOCK):
                return self._recorded(request_id, index, actor, decision, reason)
        except OSError as error:
            raise NotRecordedError(f"the override: {error.strerror}") from None

    def _recorded(
        self, request_id: str, index: int, actor: str | None, decision: DecisionKind, reason: str
    ) -> OverrideRecord:
        was = self._standing(request_id, index)
        if was == decision:
            raise StandsError(f"The decision is {decision} already.")
        time = _written(datetime.fromtimestamp(self._clock(), UTC))
        record = OverrideRecord(request_id, index, time, actor, was, decision, reason)
        log = self._opened()
        written = log.append(record.line())
        if isinstance(written, Failure):
            raise NotRecordedError(f"the override: {written}")
        if log.unconfirmed is not None:  # persons are few: each may wait for the disk alone
            log.unconfirmed.flush()
        return record

    def _standing(self, request_id: str, index: int) -> DecisionKind:
        found = newest_decision(self._directory, request_id, index)
        if found is None:
            raise UnknownDecisionError("No such decision is recorded.")
        self._reader.look()
        override = self._reader.standing.get((request_id, index))
        # A caller may have used the request id again, for a decision that is newer than the override.
        if override is None or found.time > override.timestamp:
            return found.decision
        return override.decision

    def _opened(self) -> DecisionLogWriter:
        if self._writer is None:
            worker, folder = WorkerId.this(), self._directory / OVERRIDES
            self._writer = DecisionLogWriter(
                folder, worker, self._header, self._settings,
                heartbeat=Heartbeat(_THREAD, registry=self._registry), attested=self._notary is not None,
            )  # fmt: skip
            if self._notary is not None:
                self._checkpointer = Checkpointer(
                    self._notary, folder, worker, self._settings.checkpoints.seconds, self._writer.take,
                    self._writer.due, Heartbeat(f"{_THREAD}-checkpoints", registry=self._registry),
                )  # fmt: skip
        return self._writer

    def close(self) -> None:
        """Finish the segments; nothing may be overridden afterwards."""
        if self._writer is not None:
            self._writer.close()
        if self._checkpointer is not None:
            self._checkpointer.close()


def notary_of(environment: Mapping[str, str], directory: Path) -> Notary | None:
    """Return the notary of the overrides of a log, whose checkpoints are in a folder of their own; None without a key.

    CheckpointError if it cannot work.
    """
    address = environment.get(ADDRESS_VARIABLE)
    own = {} if not address else {ADDRESS_VARIABLE: f"{address.rstrip('/')}/{OVERRIDES}"}
    return Notary.of({**environment, **own}, directory / OVERRIDES)


def check_kept(directory: Path, notary: Notary | None) -> None:
    """DecisionLogError if a log has checkpoints, and the notary keeps what it signs nowhere beside them."""
    sealed = any((folder / SEALS).is_dir() for folder in (directory, directory / OVERRIDES))
    if sealed and notary is not None and notary.vault is None:
        raise DecisionLogError(
            f"the log has checkpoints: {ADDRESS_VARIABLE} must name the address that they are kept at"
        )


def keep_overrides(directory: Path, settings: LogSettings, now: datetime, notary: Notary | None) -> int:
    """Seal the override segments of killed workers, remove those that are too old, and return how many were removed.

    A segment is too old when its last line was written more than `retention_days` ago. What it held is signed before it
    is removed, so that `verify` does not miss it.
    """
    removed = 0
    oldest = (now - timedelta(days=settings.retention_days)).timestamp()
    for path in Listing.of(directory / OVERRIDES).open:
        with suppress(SegmentError, FileNotFoundError), claimed(path) as free:
            if not free:
                continue
            if notary and not notary.sealed(path.stem):
                notary.seal(path, now)
            if path.stat().st_mtime < oldest:
                if notary and notary.sealed(path.stem):  # one without a whole header never held a line
                    notary.attest_expired(path.stem, first_line(path), read_raw(path), now)
                path.unlink()
                removed += 1
    return removed


def override_directions(directory: Path) -> dict[str, int]:
    """Return how many overrides of a log there are, by direction such as "refer to approve"."""
    reader = OverrideReader(directory)
    reader.look()
    found = Counter(f"{one.was} to {one.decision}" for one in reader.records)
    return dict(sorted(found.items()))
