"""Closing a decision log: finished segments become Parquet files, old ones are removed, and copies are shipped."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from decision_log.checkpoints import is_erased, leaf_of
from decision_log.closed_segments import (
    closed_header,
    closed_lines,
    decision_table,
    last_decision,
    read_closed,
    with_erased,
    with_lines,
    write_segment,
)
from decision_log.errors import DecisionLogError, SegmentError, SourceError
from decision_log.format import (
    decoded,
    is_decision,
)
from decision_log.notary import Notary, Vault
from decision_log.overrides import check_kept, unindexed, write_index
from decision_log.segments import (
    ASIDE,
    CLOSED,
    CLOSED_SUFFIX,
    OPEN,
    SHADOW,
    Listing,
    claimed,
    read_header,
    read_raw,
)
from decision_log.writer import LogSettings
from jobs.commandline import stop_if_asked
from jobs.output import flush_folder, locked, write_text
from jobs.settings import printable

_STAMP = "%Y%m%dT%H%M%SZ"
_OWNER_ONLY = 0o700
SHIPPED = "shipped"
"""The folder of a log that says which closed segments were copied, and how they were then."""
_LONGEST_NAME = 200
"""Characters kept of a file's name: Linux allows 255 bytes, and a number may follow."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The result of closing a decision log.

    Attributes
    ----------
    segments, decisions : closed segments, and the decisions in them
    held : segments that are still written, or finished a moment ago
    expired : files removed for their age
    aside : a line for each file that is no whole segment
    shipped : closed segments that were copied to `recording.log.ship`
    shadow : closed segments of challengers in shadow, which no other count of segments and decisions has
    """

    segments: int
    decisions: int
    held: int
    expired: int
    aside: tuple[str, ...] = ()
    shipped: int = 0
    shadow: int = 0


def close(directory: Path, settings: LogSettings, now: datetime, notary: Notary | None = None) -> Closed:
    """Close the finished segments of a decision log, and remove old ones; then those of its challengers in shadow.

    With a notary, a segment that its worker left without a last checkpoint gets one before.

    SourceError if there is no log; DecisionLogError if its folders cannot be written, or it has checkpoints and the
    notary keeps nothing beside them.
    """
    if not (directory / OPEN).is_dir():
        raise SourceError(f"{directory}: no decision log")
    check_kept(directory, notary)
    try:
        done = _Closing(directory, settings, now, notary).run()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise DecisionLogError(f"{directory}: cannot be written ({reason})") from None
    if not (directory / SHADOW / OPEN).is_dir():
        return done
    ship = settings.ship and f"{settings.ship.rstrip('/')}/{SHADOW}"
    own = settings.model_copy(update={"ship": ship})
    shadow = close(directory / SHADOW, own, now, notary and notary.below(SHADOW))
    return replace(
        done,
        expired=done.expired + shadow.expired,
        aside=(*done.aside, *shadow.aside),
        shipped=done.shipped + shadow.shipped,
        shadow=shadow.segments,
    )


@dataclass(slots=True)
class _Closing:
    """One run, with its counts so far."""

    directory: Path
    settings: LogSettings
    now: datetime
    notary: Notary | None
    segments: int = 0
    decisions: int = 0
    held: int = 0
    expired: int = 0
    shipped: int = 0
    aside: list[str] = field(default_factory=list)

    def run(self) -> Closed:
        """Set foreign files aside, remove old segments, then close finished ones."""
        # Closed segments are checked before open ones are closed: an open segment is removed only if its closed one is
        # whole. A run that was killed between writing the one and removing the other is made good that way.
        (self.directory / CLOSED).mkdir(mode=_OWNER_ONLY, exist_ok=True)
        with locked(self.directory / CLOSED, shared=True):  # `erase` must see a record either here or there
            return self._run()

    def _run(self) -> Closed:
        listing = Listing.of(self.directory)
        for path in listing.others:
            self._set_aside(path, "it is no segment of a decision log")
        for path in listing.closed:
            self._expire(path)
        for path in (*listing.closing, *listing.open):
            stop_if_asked()
            self._close_if_free(path)
        self._expire_aside()
        self._index()
        if self.settings.ship:
            self._ship(Vault(self.settings.ship))
        return Closed(self.segments, self.decisions, self.held, self.expired, tuple(self.aside), self.shipped)

    def _index(self) -> None:
        """Write the indexes that closed segments lack, since an older version closed them."""
        for path in unindexed(self.directory, Listing.of(self.directory).closed):
            with suppress(SegmentError, FileNotFoundError):  # the next run sets a damaged one aside
                columns = ["request_id", "index", "time", "decision"]
                tables = [table.select(columns) for table in read_closed(path, columns, None)]
                rows = (row for table in tables for row in zip(*table.to_pydict().values(), strict=True))
                write_index(self.directory, path.stem, rows)

    def _ship(self, vault: Vault) -> None:
        """Copy the closed segments that the address lacks, or has otherwise; an erasure changes a segment."""
        folder = self.directory / SHIPPED
        folder.mkdir(mode=_OWNER_ONLY, exist_ok=True)
        closed = Listing.of(self.directory).closed
        for path in closed:
            stop_if_asked()
            with suppress(FileNotFoundError):
                found = path.stat()
                state = f"{found.st_size} {found.st_mtime_ns}\n"
                mark = folder / path.stem
                if not mark.exists() or mark.read_text(encoding="ascii") != state:
                    vault.put(path.name, path)
                    write_text(mark, state)
                    self.shipped += 1
        for gone in {mark.name for mark in folder.iterdir()} - {path.stem for path in closed}:
            (folder / gone).unlink(missing_ok=True)

    def _close_if_free(self, path: Path) -> None:
        try:
            with claimed(path) as free:
                if not free or self.now.timestamp() - path.stat().st_mtime < self.settings.settle_seconds:
                    self.held += 1
                else:
                    if self.notary and not self.notary.sealed(path.stem):
                        self.notary.seal(path, self.now)
                    self._close(path)
        except SegmentError as error:
            self._set_aside(path, str(error))

    def _close(self, path: Path) -> None:
        """Close one segment; a segment without decisions is removed."""
        broken = 0

        def damaged() -> None:
            nonlocal broken
            broken += 1

        header = read_header(path)
        lines: list[bytes] = []
        values: list[dict[str, Any]] = []
        erased: dict[int, bytes] = {}
        for line in read_raw(path, damaged=damaged) if header else ():
            if is_erased(line):
                erased[len(lines) + len(erased)] = leaf_of(line)
                continue
            found = decoded(line)
            if header is None or found is None or not is_decision(found, header):
                damaged()
            else:
                lines.append(line)
                values.append(found)
        if header and (lines or erased):
            table = with_lines(header, decision_table(header, values), lines)
            # First the index: whoever sees the closed segment looks for its decisions there, and in no open one.
            rows = table.select(["request_id", "index", "time", "decision"]).to_pydict().values()
            write_index(self.directory, path.stem, zip(*rows, strict=True))
            write_segment(with_erased(table, erased, self.now), self.directory / CLOSED / f"{path.stem}{CLOSED_SUFFIX}")
            self.segments += 1
            self.decisions += len(lines)
        if broken:
            self._set_aside(path, f"{broken:,} of its lines are damaged; {len(lines):,} decisions of it are closed")
        else:
            path.unlink()

    def _set_aside(self, path: Path, reason: str) -> None:
        """Move a file to the folder `aside`, which no reader looks into, and note why."""
        aside = self.directory / ASIDE
        remark = f"{printable(str(path))}: {reason}"
        try:
            aside.mkdir(mode=_OWNER_ONLY, exist_ok=True)
            name = f"{self.now.astimezone(UTC):{_STAMP}}-{path.parent.name}-{path.name}"
            path.rename(_free(aside, name))
            # without it, a power cut may undo the move after the run has reported it
            flush_folder(aside)
        except OSError as error:
            self.aside.append(f"{remark}; left there ({error.strerror})")
        else:
            self.aside.append(f"{remark}; set aside in {printable(str(aside))}")

    def _expire(self, path: Path) -> None:
        """Remove a closed segment whose last decision is too old."""
        stop_if_asked()
        try:
            last = last_decision(path)
            if self._is_old(last) and not self._attest_end(path):
                return
        except SegmentError as error:
            self._set_aside(path, str(error))
        except FileNotFoundError:  # another run has removed it
            pass
        else:
            self._remove_if_old(path, last)

    def _attest_end(self, path: Path) -> bool:
        """Sign what an old segment held, so that what stays is not missing the segment before.

        False if it is not old by what was signed: Parquet's footer and metadata alone prove no age. SegmentError if
        it is not what was signed.
        """
        line = closed_header(path)
        if self.notary is None or not line:
            return True
        times = [table["time"].to_numpy().max() for table in read_closed(path, ["time"], None) if table.num_rows]
        # The lines give these times. Where all are erased, nothing but the last checkpoint says when they were written.
        ends: list[datetime] = [time.astype(datetime).replace(tzinfo=UTC) for time in times]
        signed = self.notary.seal_of(path.stem)
        if not ends and signed is not None:
            ends = [signed.time]
        if not ends or not self._is_old(max(ends)):
            return False
        self.notary.attest_expired(path.stem, line, closed_lines(path), self.now)
        return True

    def _expire_aside(self) -> None:
        """Remove files that were set aside too long ago: they may hold applicants' figures."""
        if not (self.directory / ASIDE).is_dir():
            return
        for path in sorted((self.directory / ASIDE).iterdir()):
            # the date is in the name, since a move keeps the time of the last write
            try:
                when = datetime.strptime(path.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
            except ValueError:
                continue
            if path.is_file() and not path.is_symlink():
                self._remove_if_old(path, when)

    def _is_old(self, last: datetime) -> bool:
        return last < self.now - timedelta(days=self.settings.retention_days)

    def _remove_if_old(self, path: Path, last: datetime) -> None:
        if self._is_old(last):
            path.unlink()
            self.expired += 1


def _free(folder: Path, name: str) -> Path:
    """A path in the folder that is not taken yet."""
    path, number = folder / name[:_LONGEST_NAME], 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{name[:_LONGEST_NAME]}.{number}"
    return path
