"""Closed segments of the decision log: decisions as Parquet, written whole or not at all, and read with suspicion."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scoring import Outcome, RiskLevel

from .decision import FEATURE_PREFIX, FORMAT, LATER, Header, schema, vectors
from .errors import SegmentError
from .segments import opened

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

_ROW_GROUP = 1 << 17
_OWNER_ONLY = 0o600
_MAY_BE_NULL = frozenset({"client", *LATER})
_NAMES = {"decision": frozenset(map(str, Outcome)), "risk_level": frozenset(map(str, RiskLevel))}


def decision_table(header: Header, lines: Sequence[dict[str, Any]]) -> pa.Table:
    """Decoded lines as the columns of a closed segment."""
    fields = schema(header.features)
    plain = {name: [_value(line, name) for line in lines] for name in fields.names[: -len(header.features)]}
    plain["time"] = [datetime.fromisoformat(time) for time in plain["time"]]
    plain["client"] = [None if client is None else bytes.fromhex(client) for client in plain["client"]]
    return closed_table(header, plain, vectors(lines))


def _value(line: dict[str, Any], name: str) -> Any:
    """Lines of an older version do not say what was known of an application; that is null."""
    return line.get(name) if name in LATER else line[name]


def closed_table(header: Header, plain: Mapping[str, Any], matrix: NDArray[np.float64]) -> pa.Table:
    """The columns of a closed segment: all that a line has but the vector, by name, and the model matrix."""
    import pyarrow as pa

    fields = schema(header.features)
    columns = [*(plain[name] for name in fields.names[: -len(header.features)]), *matrix.T]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    said = {"format": str(FORMAT), "model": header.model, "version": header.model_version, "digest": header.digest}
    return pa.table(arrays, schema=fields.with_metadata(said))


def write_segment(table: pa.Table, target: Path) -> None:
    """Write the file, for its owner only, so that it is there whole or not at all, whatever happens."""
    from pyarrow import parquet

    scratch = target.with_name(f".{target.name}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        os.fchmod(file.fileno(), _OWNER_ONLY)
        parquet.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(target)
    flush_folder(target.parent)


def flush_folder(path: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_decision(path: Path) -> datetime:
    """When the last decision of a closed segment was made; SegmentError if it is none."""
    with _segment(path) as file:
        position = file.schema_arrow.get_field_index("time")
        times: list[datetime] = []
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(position).statistics
            if statistics is None or not statistics.has_min_max:
                raise SegmentError("it does not say when its decisions were made")
            times.append(statistics.max)
        if not times:
            raise SegmentError("it holds no decision")
        return max(times)


def read_closed(path: Path, columns: Sequence[str], digest: str | None) -> Iterator[pa.Table]:
    """These columns of a closed segment, in blocks; nothing if a `digest` is given and it is of another model.

    SegmentError if it is no closed segment, or damaged; FileNotFoundError if it is not there.
    """
    with _segment(path) as file:
        if digest is not None and file.schema_arrow.metadata[b"digest"] != digest.encode():
            return
        if not set(columns) <= set(file.schema_arrow.names):
            raise SegmentError("it has not the features of its model")
        for group in range(file.num_row_groups):
            with _damage_told():
                table = file.read_row_group(group, columns=list(columns))
                _check(table)
            yield table


@contextmanager
def _segment(path: Path) -> Iterator[parquet.ParquetFile]:
    from pyarrow import parquet

    with opened(path):  # a pipe would be waited for
        pass
    with _damage_told():
        file = parquet.ParquetFile(path)
    with file:
        with _damage_told():
            found = file.schema_arrow
            features = [name.removeprefix(FEATURE_PREFIX) for name in found.names if name.startswith(FEATURE_PREFIX)]
            said = found.metadata or {}
            same = all(_agrees(found, field) for field in schema(features))
            if not same or said.get(b"format") != str(FORMAT).encode():
                raise SegmentError("its columns are not those of a decision log")
            if not {b"model", b"version", b"digest"} <= said.keys():
                raise SegmentError("it does not say of which model its decisions are")
        yield file


def _agrees(found: pa.Schema, field: pa.Field[Any]) -> bool:
    if found.get_field_index(field.name) < 0:
        return field.name in LATER
    return bool(found.field(field.name).type == field.type)


@contextmanager
def _damage_told() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise SegmentError(f"it is damaged ({type(error).__name__})") from None


def _check(table: pa.Table) -> None:
    """SegmentError if there is a value that no decision has."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and name not in _MAY_BE_NULL:
            raise SegmentError(f"{name} is missing")
        if name in _NAMES and not _NAMES[name].issuperset(pa.chunked_array(column).unique().cast("string").to_pylist()):
            raise SegmentError(f"{name} holds what is none")
        if name == "probability" and not np.all((values := column.to_numpy()) >= 0) & np.all(values <= 1):
            raise SegmentError("probability is none")
