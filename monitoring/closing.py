"""Closing the decision log: segments that no worker writes any more become Parquet, and old ones are removed.

Safe against a crash at any moment: a segment is written under another name, flushed, renamed, and only then is the open
one removed. A second run finds either or both and ends the same way. What is no segment, or a damaged one, is set aside
and named; whatever is whole in it is closed like the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from features import printable
from scoring import stop_if_asked

from .closed import decision_table, flush_folder, last_decision, write_segment
from .errors import DecisionLogError, SegmentError, SourceError
from .recording import LogSettings
from .segments import ASIDE, CLOSED, CLOSED_SUFFIX, OPEN, Listing, claimed, read_decisions, read_header

_STAMP = "%Y%m%dT%H%M%SZ"
_OWNER_ONLY = 0o700
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing did.

    Attributes
    ----------
    segments, decisions : that were closed, and in them
    held : segments that are still written
    expired : files removed for their age
    aside : a line for each file that is no whole segment
    """

    segments: int
    decisions: int
    held: int
    expired: int
    aside: tuple[str, ...] = ()


def close(directory: Path, settings: LogSettings, now: datetime) -> Closed:
    """Close what is finished in a decision log.

    SourceError if there is none, DecisionLogError if nothing can be written.
    """
    if not (directory / OPEN).is_dir():
        raise SourceError(f"{directory}: no decision log")
    try:
        return _Closing(directory, settings, now).done()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise DecisionLogError(f"{directory}: cannot be written ({reason})") from None


@dataclass(slots=True)
class _Closing:
    """One run, and what it has done so far."""

    directory: Path
    settings: LogSettings
    now: datetime
    segments: int = 0
    decisions: int = 0
    held: int = 0
    expired: int = 0
    aside: list[str] = field(default_factory=list)

    def done(self) -> Closed:
        """Do it. Closed segments come first: an open one is removed only if its closed one is whole."""
        (self.directory / CLOSED).mkdir(mode=_OWNER_ONLY, exist_ok=True)
        listing = Listing.of(self.directory)
        for path in listing.others:
            self._set_aside(path, "it is no segment of a decision log")
        for path in listing.closed:
            self._expire(path)
        for path in (*listing.closing, *listing.open):
            stop_if_asked()
            self._close_if_free(path)
        self._forget()
        return Closed(self.segments, self.decisions, self.held, self.expired, tuple(self.aside))

    def _close_if_free(self, path: Path) -> None:
        try:
            with claimed(path) as free:
                if not free or self.now.timestamp() - path.stat().st_mtime < self.settings.settle_seconds:
                    self.held += 1
                else:
                    self._close(path)
        except SegmentError as error:
            self._set_aside(path, str(error))

    def _close(self, path: Path) -> None:
        """Close one segment. One that holds no decision just vanishes."""
        broken = 0

        def damaged() -> None:
            nonlocal broken
            broken += 1

        header = read_header(path)
        lines = list(read_decisions(path, header, damaged=damaged)) if header else []
        if header and lines:
            write_segment(decision_table(header, lines), self.directory / CLOSED / f"{path.stem}{CLOSED_SUFFIX}")
            self.segments += 1
            self.decisions += len(lines)
        if broken:
            self._set_aside(path, f"{broken:,} of its lines are damaged; {len(lines):,} decisions of it are closed")
        else:
            path.unlink()

    def _set_aside(self, path: Path, reason: str) -> None:
        """Move it where nobody reads it as a segment, and remember why."""
        aside = self.directory / ASIDE
        said = f"{printable(str(path))}: {reason}"
        try:
            aside.mkdir(mode=_OWNER_ONLY, exist_ok=True)
            name = f"{self.now.astimezone(UTC):{_STAMP}}-{path.parent.name}-{path.name}"
            path.rename(_free(aside, name))
            flush_folder(aside)
        except OSError as error:
            self.aside.append(f"{said}; left there ({error.strerror})")
        else:
            self.aside.append(f"{said}; set aside in {printable(str(aside))}")

    def _expire(self, path: Path) -> None:
        """Remove a closed segment whose last decision is too old."""
        stop_if_asked()
        try:
            last = last_decision(path)
        except SegmentError as error:
            self._set_aside(path, str(error))
        except FileNotFoundError:
            pass
        else:
            self._remove_if_old(path, last)

    def _forget(self) -> None:
        """Remove what was set aside too long ago: it may hold applicants' figures."""
        if not (self.directory / ASIDE).is_dir():
            return
        for path in sorted((self.directory / ASIDE).iterdir()):
            try:
                when = datetime.strptime(path.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
            except ValueError:
                continue
            if path.is_file() and not path.is_symlink():
                self._remove_if_old(path, when)

    def _remove_if_old(self, path: Path, last: datetime) -> None:
        if last < self.now - timedelta(days=self.settings.retention_days):
            path.unlink()
            self.expired += 1


def _free(folder: Path, name: str) -> Path:
    """A name in the folder that is not taken."""
    path, number = folder / name[:_LONGEST_NAME], 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{name[:_LONGEST_NAME]}.{number}"
    return path
