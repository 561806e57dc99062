"""The reader of a decision log: open and closed segments alike, in blocks of bounded size.

The queue of referrals is read from it: what the model left to a person, and no person has decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from decision_log.closed_segments import closed_fields, decision_table, read_closed
from decision_log.errors import SegmentError, SourceError
from decision_log.format import ADDED_FIELDS, FEATURE_PREFIX, Header
from decision_log.overrides import OverrideReader
from decision_log.segments import CLOSED, CLOSED_SUFFIX, OPEN, OPEN_SUFFIX, Listing, read_decisions, read_header
from jobs.commandline import stop_if_asked
from jobs.settings import printable
from scoring.errors import ScoringError
from scoring.policy import DecisionKind
from scoring.store import load_artefact

if TYPE_CHECKING:
    import pyarrow as pa


_LINES = 8_192
"""Lines of an open segment that make one block."""
_REMOVED = "it was removed while the log was read"


@dataclass(frozen=True, slots=True)
class DecisionLogReader:
    """Reads the decisions in a directory: of one model if a `digest` is given, from `since` on, before `until`.

    Attributes
    ----------
    passed_over : files that are no segments, or damaged, and why; filled as the log is read
    """

    directory: Path
    digest: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    passed_over: dict[Path, str] = field(default_factory=dict, compare=False)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read columns of the decisions, in blocks; SourceError if there is no log."""
        for path in self.segments():
            stop_if_asked()
            try:
                yield from self._segment(path, columns)
            except SegmentError as error:  # one bad file must not hide the decisions in all others
                self.passed_over[path] = str(error)

    def segments(self) -> tuple[Path, ...]:
        """List the segments, those that are closed first; SourceError if there is no log."""
        if not (self.directory / OPEN).is_dir() and not (self.directory / CLOSED).is_dir():
            raise SourceError(f"{self.directory}: no decision log")
        listing = Listing.of(self.directory)
        self.passed_over.update(dict.fromkeys(listing.others, "it is no segment of a decision log"))
        return (*listing.closed, *listing.open)

    def recorded(self, path: Path, columns: Sequence[str]) -> Iterator[tuple[Header, pa.Table]]:
        """Read these columns and the vectors of one segment, each block with the segment's header.

        Columns that the segment lacks, since it was closed by an older version, are left out.
        """
        try:
            header, wanted = self._fields(path, columns)
            if header is not None:
                for table in self._segment(path, wanted):
                    yield header, table
        except FileNotFoundError:
            self.passed_over[path] = _REMOVED
        except SegmentError as error:
            self.passed_over[path] = str(error)

    def _fields(self, path: Path, columns: Sequence[str]) -> tuple[Header | None, list[str]]:
        """The header of a segment, and its columns among these; the header is None where it was not written whole."""
        names: frozenset[str] = ADDED_FIELDS
        try:
            header = read_header(path) if path.suffix == OPEN_SUFFIX else None
        except FileNotFoundError:  # it was closed after it was listed
            path = self._closed_path(path)
        if path.suffix == CLOSED_SUFFIX:
            header, names = closed_fields(path)
        features = () if header is None else header.features
        kept = [name for name in columns if name not in ADDED_FIELDS or name in names]
        return header, [*kept, *(f"{FEATURE_PREFIX}{name}" for name in features)]

    def remarks(self) -> list[str]:
        """A line with the number of files that were passed over, and one for each of them."""
        if not self.passed_over:
            return []
        lines = [f"  {printable(str(path))}: {reason}" for path, reason in sorted(self.passed_over.items())]
        return [f"{len(lines)} files in the log were passed over, wholly or in part:", *lines]

    def span(self, progress: Callable[[int], object] = lambda _: None) -> tuple[datetime, datetime]:
        """The times of the first and the last decision; SourceError if there is none."""
        import pyarrow.compute as pc

        ends = []
        for table in self.tables(["time"]):
            ends.append(pc.min_max(table["time"]).as_py())
            progress(table.num_rows)
        if not ends:
            raise SourceError(f"{self.directory}: no decision of this model and time")
        return min(each["min"] for each in ends), max(each["max"] for each in ends)

    def _segment(self, path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        blocks = self._closed if path.suffix == CLOSED_SUFFIX else self._open
        wanted = list(dict.fromkeys(["time", *columns])) if self.since or self.until else list(columns)
        for table in blocks(path, wanted):
            chosen = self._within(table).select(list(columns))
            if chosen.num_rows:
                yield chosen

    def _closed(self, path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from read_closed(path, columns, self.digest)

    def _open(self, path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        try:
            yield from self._lines(path, columns)
        except FileNotFoundError:  # it was closed after it was listed, or removed
            try:
                yield from self._closed(self._closed_path(path), columns)
            except FileNotFoundError:
                self.passed_over[path] = _REMOVED

    def _closed_path(self, path: Path) -> Path:
        return self.directory / CLOSED / f"{path.stem}{CLOSED_SUFFIX}"

    def _lines(self, path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        header = read_header(path)
        if header is None or (self.digest is not None and header.digest != self.digest):
            return
        broken = 0

        def damaged() -> None:
            nonlocal broken
            broken += 1
            self.passed_over[path] = f"{broken:,} of its lines are damaged"

        lines = read_decisions(path, header, damaged=damaged)
        while block := list(islice(lines, _LINES)):
            yield decision_table(header, block).select(list(columns))

    def _within(self, table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        for bound, compare in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if bound is not None:
                table = table.filter(compare(table["time"], bound))
        return table


_PLACE = ("request_id", "index", "time")
_COLUMNS = (*_PLACE, "decision", "probability", "margin", "risk_level", "model", "model_version")
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Referral:
    """A referred application that waits for a person.

    Attributes
    ----------
    probability : calibrated PD
    points : as in the answer; None where the model store lacks the model
    """

    request_id: str
    index: int
    time: datetime
    probability: float
    points: int | None
    risk_level: str

    def waiting(self, now: datetime) -> float:
        """Return the seconds since the decision."""
        return (now - self.time).total_seconds()


def open_referrals(log: DecisionLogReader) -> list[Referral]:
    """Return the referrals without a person's decision, oldest first; SourceError if there is no log.

    Of several decisions with one request id and index, the newest counts.
    """
    newest: dict[Place, dict[str, Any]] = {}
    for row in _rows(log, _COLUMNS, referred=True):
        _keep_newest(newest, row)
    for row in _rows(log, _PLACE, referred=False):
        known = newest.get((row["request_id"], row["index"]))
        if known is not None and known["time"] < row["time"]:
            del newest[row["request_id"], row["index"]]
    overrides = OverrideReader(log.directory)
    overrides.look()
    decided = {place: datetime.fromisoformat(one.timestamp) for place, one in overrides.standing.items()}
    waiting = [row for place, row in newest.items() if place not in decided or decided[place] < row["time"]]
    waiting.sort(key=lambda row: (row["time"], row["request_id"], row["index"]))
    return [_referral(row) for row in waiting]


def _keep_newest(newest: dict[Place, dict[str, Any]], row: dict[str, Any]) -> None:
    known = newest.get((row["request_id"], row["index"]))
    if known is None or known["time"] <= row["time"]:
        newest[row["request_id"], row["index"]] = row


def _rows(log: DecisionLogReader, columns: tuple[str, ...], *, referred: bool) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    for table in log.tables(list(dict.fromkeys((*columns, "decision")))):
        is_referral: pa.ChunkedArray[Any] = pc.equal(table["decision"].cast("string"), str(DecisionKind.REFER))
        yield from table.filter(is_referral if referred else pc.invert(is_referral)).select(columns).to_pylist()


def _referral(row: dict[str, Any]) -> Referral:
    points = _points(f"{row['model']}:{row['model_version']}", row["margin"])
    return Referral(row["request_id"], row["index"], row["time"], row["probability"], points, row["risk_level"])


def _points(tag: str, margin: float) -> int | None:
    """Return the points of a margin on the scale of the model; None where the store lacks the model."""
    made = _scale(tag)
    if made is None:
        return None
    return int(made.policy.scale.points(made.calibration.log_odds(np.array([margin])))[0])


@cache
def _scale(tag: str) -> Any:
    try:
        return load_artefact(tag)[2]
    except ScoringError:
        return None
