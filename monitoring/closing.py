"""Closing the decision log: segments that no worker writes any more become Parquet, and old ones are removed.

Safe against a crash at any moment: a segment is written under another name, flushed, renamed, and only then is the open
one removed. A second run finds either or both and ends the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scoring import stop_if_asked

from .decision import FORMAT, Header, schema, vectors
from .errors import DecisionLogError, SourceError
from .recording import LogSettings
from .segments import CLOSED, CLOSED_SUFFIX, OPEN, OPEN_SUFFIX, Listing, claimed, read_header, read_lines

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 1 << 17


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing did: segments closed, decisions in them, segments that are still written, files removed for age."""

    segments: int
    decisions: int
    held: int
    expired: int


def close(directory: Path, settings: LogSettings, now: datetime) -> Closed:
    """Close what is finished in a decision log.

    SourceError if there is none or a segment cannot be read, DecisionLogError if nothing can be written.
    """
    if not (directory / OPEN).is_dir():
        raise SourceError(f"{directory}: no decision log")
    try:
        return _closed(directory, settings, now)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise DecisionLogError(f"{directory}: cannot be written ({reason})") from None


def _closed(directory: Path, settings: LogSettings, now: datetime) -> Closed:
    (directory / CLOSED).mkdir(exist_ok=True)
    segments = held = decisions = 0
    for path in sorted((directory / OPEN).glob(f"*{OPEN_SUFFIX}")):
        stop_if_asked()
        with claimed(path) as ours:
            if not ours or now.timestamp() - path.stat().st_mtime < settings.settle_seconds:
                held += 1
                continue
            count = _close(path, directory / CLOSED)
        decisions += count
        segments += count > 0
    return Closed(segments, decisions, held, _expire(directory, now - timedelta(days=settings.retention_days)))


def _close(path: Path, closed: Path) -> int:
    """Close one segment; how many decisions it holds. One that holds none just vanishes."""
    try:
        header, lines = read_header(path), list(read_lines(path))
    except ValueError:
        raise SourceError(f"{path}: not a segment of a decision log") from None
    if header is not None and lines:
        write_segment(decision_table(header, lines), closed / f"{path.stem}{CLOSED_SUFFIX}")
    path.unlink()
    return len(lines)


def decision_table(header: Header, lines: Sequence[dict[str, Any]]) -> pa.Table:
    """Decoded lines as the columns of a closed segment."""
    fields = schema(header.features)
    plain = {name: [_value(line, name) for line in lines] for name in fields.names[: -len(header.features)]}
    plain["time"] = [datetime.fromisoformat(time) for time in plain["time"]]
    plain["client"] = [None if client is None else bytes.fromhex(client) for client in plain["client"]]
    return closed_table(header, plain, vectors(lines))


def _value(line: dict[str, Any], name: str) -> Any:
    """Lines of an older version do not say what was known of an application; that is null."""
    return line.get(name) if name in ("missing", "unknown", "withheld") else line[name]


def closed_table(header: Header, plain: Mapping[str, Any], matrix: NDArray[np.float64]) -> pa.Table:
    """The columns of a closed segment: all that a line has but the vector, by name, and the model matrix."""
    import pyarrow as pa

    fields = schema(header.features)
    columns = [*(plain[name] for name in fields.names[: -len(header.features)]), *matrix.T]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    said = {"format": str(FORMAT), "model": header.model, "version": header.model_version, "digest": header.digest}
    return pa.table(arrays, schema=fields.with_metadata(said))


def write_segment(table: pa.Table, target: Path) -> None:
    """Write the file so that it is there whole or not at all, whatever happens."""
    from pyarrow import parquet

    scratch = target.with_name(f".{target.name}")
    parquet.write_table(table, scratch, compression="zstd", row_group_size=_ROW_GROUP)
    _flush(scratch)
    scratch.replace(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _expire(directory: Path, before: datetime) -> int:
    """Remove the closed segments whose last decision is older."""
    from pyarrow import parquet

    removed = 0
    for path in Listing.of(directory).closed:
        stop_if_asked()
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            position = file.schema_arrow.get_field_index("time")
            last = max(group.column(position).statistics.max for group in groups)
        if last < before:
            path.unlink()
            removed += 1
    return removed
