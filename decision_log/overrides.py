"""Overrides: what a person decided in the place of the model, each a record of its own.

DIR/overrides/open/<start>-<host>-<pid>-<n>.jsonl    small segments of the worker whose first override came then
DIR/overrides/seals/<the same>                       the last checkpoint of each

The segments have the form, the hashes and the checkpoints of the decision log. The `features` of their headers are the
fields of a line: salt, request_id, index, timestamp, actor, was, decision, reason. They are never closed into Parquet.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from json import dumps
from pathlib import Path
from typing import Any, Self

from prometheus_client import REGISTRY, CollectorRegistry

from decision_log.errors import NotRecordedError, SegmentError, StandsError, UnknownDecisionError
from decision_log.format import Header, decoded
from decision_log.lookup import newest_decision
from decision_log.notary import ADDRESS_VARIABLE, Checkpointer, Notary
from decision_log.segments import Listing, WorkerId, claimed, opened
from decision_log.writer import DecisionLogWriter, Failure, LogSettings
from jobs.heartbeat import Heartbeat
from jobs.output import locked
from scoring.policy import DecisionKind

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
        time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")
        record = OverrideRecord(request_id, index, f"{time[:-6]}Z", actor, was, decision, reason)
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
        if override is None or (found.time is not None and found.time > override.timestamp):
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


def keep_overrides(directory: Path, settings: LogSettings, now: datetime, notary: Notary | None) -> int:
    """Seal the override segments of killed workers, remove those that are too old, and return how many were removed.

    A segment is too old when its last line was written more than `retention_days` ago.
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
                path.unlink()
                removed += 1
    return removed


def override_directions(directory: Path) -> dict[str, int]:
    """Return how many overrides of a log there are, by direction such as "refer to approve"."""
    reader = OverrideReader(directory)
    reader.look()
    found = Counter(f"{one.was} to {one.decision}" for one in reader.records)
    return dict(sorted(found.items()))
