"""Reading a decision log, closed segments and open ones alike, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.closing import decision_table
from monitoring.errors import SourceError
from monitoring.segments import CLOSED, CLOSED_SUFFIX, OPEN, Listing, read_header, read_lines
from scoring import stop_if_asked

if TYPE_CHECKING:
    import pyarrow as pa

_LINES = 8_192


@dataclass(frozen=True, slots=True)
class DecisionLog:
    """The decisions in a directory, of one model if a `digest` is given, from `since` on and before `until`."""

    directory: Path
    digest: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of the decisions, in blocks; SourceError if there is no log or it is damaged."""
        import pyarrow as pa

        if not (self.directory / OPEN).is_dir() and not (self.directory / CLOSED).is_dir():
            raise SourceError(f"{self.directory}: no decision log")
        listing = Listing.of(self.directory)
        for path in (*listing.closed, *listing.open):
            stop_if_asked()
            try:
                yield from self._segment(path, columns)
            except (ValueError, KeyError, pa.ArrowException):
                raise SourceError(f"{path}: not a segment of a decision log") from None

    def span(self, progress: Callable[[int], object] = lambda _: None) -> tuple[datetime, datetime]:
        """The time of the first decision and that of the last; SourceError if there is none."""
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
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            if self._other(file.schema_arrow.metadata[b"digest"].decode()):
                return
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns))

    def _open(self, path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        try:
            header = read_header(path)
        except FileNotFoundError:  # closed since it was listed
            yield from self._closed(path.parent.parent / CLOSED / f"{path.stem}{CLOSED_SUFFIX}", columns)
            return
        if header is None or self._other(header.digest):
            return
        lines = read_lines(path)
        while block := list(islice(lines, _LINES)):
            yield decision_table(header, block).select(list(columns))

    def _other(self, digest: str) -> bool:
        return self.digest is not None and digest != self.digest

    def _within(self, table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        for bound, compare in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if bound is not None:
                table = table.filter(compare(table["time"], bound))
        return table
