"""The form of closed segments: Parquet files of decisions, which are checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_log.checkpoints import erased_line
from decision_log.errors import SegmentError
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
from decision_log.segments import opened
from jobs.output import remove_unfinished, replaced
from scoring.policy import DecisionKind, RiskLevel

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

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
