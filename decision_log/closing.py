"""Closed segments of the decision log: Parquet files, made from finished segments and checked when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_log.checkpoints import erased_line, is_erased, leaf_of
from decision_log.errors import DecisionLogError, SegmentError, SourceError
from decision_log.format import (
    ADDED_FIELDS,
    EXPLORED,
    FEATURE_PREFIX,
    HISTORY,
    READABLE,
    STORED_LINE,
    Header,
    decoded,
    is_decision,
    made_lines,
    schema,
    vectors,
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
    opened,
    read_header,
    read_raw,
)
from decision_log.writer import LogSettings
from jobs.commandline import stop_if_asked
from jobs.output import flush_folder, locked, remove_unfinished, replaced, write_text
from jobs.settings import printable
from scoring.policy import DecisionKind, RiskLevel

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet


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


_ERASED, _UNTIL = b"erased", b"until"
_LINES = 8_192
"""Lines that are made again at once."""
_ROW_GROUP = 1 << 17
"""Rows that a reader has in memory at once."""
_OWNER_ONLY_FILE = 0o600
_FORMATS = {str(form).encode() for form in READABLE}
_MAY_BE_NULL = frozenset({"client", *ADDED_FIELDS})
_NAMES = {"decision": frozenset(map(str, DecisionKind)), "risk_level": frozenset(map(str, RiskLevel))}


def decision_table(header: Header, lines: Sequence[dict[str, Any]]) -> pa.Table:
    """Turn decoded lines into the columns of a closed segment."""
    fields = schema(header.features)
    plain = {name: [_value(line, name) for line in lines] for name in fields.names[: -len(header.features)]}
    plain["time"] = [datetime.fromisoformat(time) for time in plain["time"]]
    for name in ("client", "salt"):
        plain[name] = [None if text is None else bytes.fromhex(text) for text in plain[name]]
    return closed_table(header, plain, vectors(lines) if lines else np.empty((0, len(header.features))))


def _value(line: dict[str, Any], name: str) -> Any:
    """The value of a field; null for one that lines of an older version lack."""
    if name == "line":
        return None
    return line.get(name) if name in ADDED_FIELDS else line[name]


def with_lines(header: Header, table: pa.Table, lines: Sequence[bytes]) -> pa.Table:
    """The table with the bytes of each line that its columns do not give again; format 1 has no such lines."""
    import pyarrow as pa

    if header.format == 1:
        return table
    made = made_lines(header, table)
    kept = [None if line == again else line for line, again in zip(lines, made, strict=True)]
    at = table.schema.get_field_index("line")
    return table.set_column(at, table.schema.field(at), pa.array(kept, pa.binary()))


def with_erased(table: pa.Table, erased: Mapping[int, bytes], until: datetime) -> pa.Table:
    """The table that says which lines of its segment were erased: their hashes by position.

    `until` is the time of the last decision, for a segment of which nothing else is left.
    """
    if not erased:
        return table
    hashes = {str(number): leaf.hex() for number, leaf in sorted(erased.items())}
    said = {_ERASED: json.dumps(hashes).encode(), _UNTIL: until.astimezone(UTC).isoformat().encode()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **said})


def closed_table(header: Header, plain: Mapping[str, Any], matrix: NDArray[np.float64]) -> pa.Table:
    """Build the columns of a closed segment from the fields of lines, by name, and the model matrix."""
    import pyarrow as pa

    fields = schema(header.features)
    columns = [*(plain[name] for name in fields.names[: -len(header.features)]), *matrix.T]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    metadata = {
        "format": str(header.format),
        "model": header.model,
        "version": header.model_version,
        "digest": header.digest,
        "header": header.line().decode(),
    }
    return pa.table(arrays, schema=fields.with_metadata(metadata))


def write_segment(table: pa.Table, target: Path) -> None:
    """Write the file whole or not at all, for its owner only."""
    from pyarrow import parquet

    remove_unfinished(target)
    # The open segment is removed next, so this one must be on the disk first. Both the file and its folder are flushed
    # (fsync): without the folder's, a power cut may lose the name of a file whose content is safe.
    with replaced(target, mode=_OWNER_ONLY_FILE, durable=True) as file:
        parquet.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)


def last_decision(path: Path) -> datetime:
    """The time of the last decision in a closed segment; SegmentError if the file is none."""
    with _segment(path) as file:
        position = file.schema_arrow.get_field_index("time")
        times: list[datetime] = []
        # Parquet's footer holds the latest time of each group, so retention reads no decision
        for group in range(file.num_row_groups if file.metadata.num_rows else 0):
            statistics = file.metadata.row_group(group).column(position).statistics
            if statistics is None or not statistics.has_min_max:
                raise SegmentError("it does not say when its decisions were made")
            times.append(statistics.max)
        if not times and _UNTIL in file.schema_arrow.metadata:  # all of them were erased
            with _damage_as_error():
                times = [datetime.fromisoformat(file.schema_arrow.metadata[_UNTIL].decode())]
        if not times:
            raise SegmentError("it holds no decision")
        return max(times)


def closed_header(path: Path) -> bytes:
    """The header line of the segment that a closed one was made from, empty for format 1; SegmentError if none."""
    with _segment(path) as file:
        metadata = file.schema_arrow.metadata
        return b"" if metadata[b"format"] == b"1" else bytes(metadata.get(b"header", b""))


def closed_erased(path: Path) -> dict[int, bytes]:
    """The hashes of the erased lines of a closed segment by position; SegmentError if it is damaged."""
    with _segment(path) as file:
        return _erased(file)


def _erased(file: parquet.ParquetFile) -> dict[int, bytes]:
    with _damage_as_error():
        said = json.loads(file.schema_arrow.metadata.get(_ERASED, b"{}"))
        return {int(number): bytes.fromhex(leaf) for number, leaf in said.items()}


def closed_fields(path: Path) -> tuple[Header, frozenset[str]]:
    """The header and the names of the columns of a closed segment; SegmentError if the file is none.

    Segments of format 1 that an older version closed keep no header: it is made again from what they do keep.
    """
    with _segment(path) as file:
        names, metadata = file.schema_arrow.names, file.schema_arrow.metadata
    features = tuple(name.removeprefix(FEATURE_PREFIX) for name in names if name.startswith(FEATURE_PREFIX))
    model, version, digest = (metadata[key].decode(errors="replace") for key in (b"model", b"version", b"digest"))
    made = Header(model, version, digest, features, format=1)
    try:
        header = made if metadata[b"format"] == b"1" else Header.parse(metadata.get(b"header", b""))
    except ValueError:
        raise SegmentError("it has no header of a decision log") from None
    if header.features != features:
        raise SegmentError("its header names other features than its columns")
    return header, frozenset(names)


def closed_lines(path: Path) -> Iterator[bytes]:
    """The lines that a closed segment was made from, without their ends, also those that were erased since.

    SegmentError if it is damaged.
    """
    with _segment(path) as file:  # opened once: an erasure may replace it meanwhile
        erased = _erased(file)
        number = 0
        for line in _kept_lines(file):
            while number in erased:
                yield erased_line(erased[number])
                number += 1
            yield line
            number += 1
        for leaf in (leaf for at, leaf in sorted(erased.items()) if at >= number):
            yield erased_line(leaf)


def _kept_lines(file: parquet.ParquetFile) -> Iterator[bytes]:
    try:
        header = Header.parse(file.schema_arrow.metadata.get(b"header", b""))
    except ValueError:
        raise SegmentError("it has no header of a decision log") from None
    columns = [*STORED_LINE, *(f"{FEATURE_PREFIX}{name}" for name in header.features)]
    for table in _blocks(file, columns):
        for start in range(0, table.num_rows, _LINES):
            with _damage_as_error():
                lines = _lines_of(header, table.slice(start, _LINES))
            yield from lines


def _lines_of(header: Header, table: pa.Table) -> list[bytes]:
    """The line of each row: the kept one where it gives this very row, otherwise what the columns give."""
    # Readers take the columns. A line that is kept beside other columns would prove what nobody reads.
    lines = list(made_lines(header, table))
    kept = {number: line for number, line in enumerate(table["line"].to_pylist()) if line is not None}
    read = {number: decoded(line) for number, line in kept.items()}
    values = {number: one for number, one in read.items() if one is not None and is_decision(one, header)}
    if values:
        again = made_lines(header, decision_table(header, list(values.values())))
        lines_of_kept = zip(values, again, strict=True)
        for number, line in lines_of_kept:
            if line == lines[number]:
                lines[number] = kept[number]
    return lines


def closed_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Position in its segment, counted with what was erased, and values of each decision; errors as `read_closed`."""
    with _segment(path) as file:
        erased = _erased(file)
        numbers = (number for number in count() if number not in erased)
        for table in _blocks(file, columns):
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
            yield from ((next(numbers), row) for row in rows)


def read_whole(path: Path) -> pa.Table:
    """All columns of a closed segment with its metadata; SegmentError if it is damaged."""
    with _segment(path) as file, _damage_as_error():
        return file.read()


def read_closed(path: Path, columns: Sequence[str], digest: str | None) -> Iterator[pa.Table]:
    """Read columns of a closed segment, in blocks; nothing if a `digest` is given and the model is another.

    SegmentError if the file is no closed segment, or damaged; FileNotFoundError if it is not there.
    """
    with _segment(path) as file:
        if digest is None or file.schema_arrow.metadata[b"digest"] == digest.encode():
            yield from _blocks(file, columns)


def _blocks(file: parquet.ParquetFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    names = [*file.schema_arrow.names, *_LATER]
    if not set(columns) <= set(names):
        raise SegmentError("it lacks features of its model")
    for group in range(file.num_row_groups):
        with _damage_as_error():
            table = _with_later(file.read_row_group(group, columns=list(columns)), columns)
            _check(table)
        yield table


_LATER = {EXPLORED: "bool", HISTORY: "string"}
"""Columns that segments lack which were closed before there was exploration, or a history, and their types."""


def _with_later(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The table with the columns that it lacks for its age: they say nothing."""
    import pyarrow as pa

    for name, kind in _LATER.items():
        if name in columns and name not in table.column_names:
            nothing = pa.nulls(table.num_rows, pa.type_for_alias(kind))
            table = table.append_column(name, nothing)
    return table.select(list(columns))


@contextmanager
def _segment(path: Path) -> Iterator[parquet.ParquetFile]:
    from pyarrow import parquet

    with opened(path):  # refuses a pipe, for which Parquet's reader would wait without end
        pass
    with _damage_as_error():
        file = parquet.ParquetFile(path)
    with file:
        with _damage_as_error():
            found = file.schema_arrow
            features = [name.removeprefix(FEATURE_PREFIX) for name in found.names if name.startswith(FEATURE_PREFIX)]
            metadata = found.metadata or {}
            same = all(_agrees(found, field) for field in schema(features))
            if not same or metadata.get(b"format") not in _FORMATS:
                raise SegmentError("its columns are not those of a decision log")
            if not {b"model", b"version", b"digest"} <= metadata.keys():
                raise SegmentError("it does not name the model of its decisions")
            if b"header" in metadata and not _names_one_model(metadata):
                raise SegmentError("its metadata names another model than its header")
        yield file


def _names_one_model(metadata: Mapping[bytes, bytes]) -> bool:
    try:
        header = Header.parse(metadata[b"header"])
    except ValueError:
        raise SegmentError("it has no header of a decision log") from None
    named = header.model, header.model_version, header.digest
    return [name.encode() for name in named] == [metadata[key] for key in (b"model", b"version", b"digest")]


def _agrees(found: pa.Schema, field: pa.Field[Any]) -> bool:
    if found.get_field_index(field.name) < 0:
        return field.name in ADDED_FIELDS
    return bool(found.field(field.name).type == field.type)


@contextmanager
def _damage_as_error() -> Iterator[None]:
    import pyarrow as pa

    # Bytes that are damaged in the right places make pyarrow raise any of these, and not its own errors only.
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise SegmentError(f"it is damaged ({type(error).__name__})") from None


def _check(table: pa.Table) -> None:
    """SegmentError if a column holds a value that no decision has."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and name not in _MAY_BE_NULL:
            raise SegmentError(f"{name} is missing")
        if name in _NAMES and not _NAMES[name].issuperset(pa.chunked_array(column).unique().cast("string").to_pylist()):
            raise SegmentError(f"{name} holds an unknown value")
        if name == "probability" and not np.all((values := column.to_numpy()) >= 0) & np.all(values <= 1):
            raise SegmentError("probability is not between 0 and 1")
