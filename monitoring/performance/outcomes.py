"""Matured outcomes: a file that says of applications whether they defaulted.

Columns: `outcome`, 1 for default, 0 for repaid, empty while it is not known yet; and either `client_id`, which is
hashed with the key of the decision log, or `request_id`, with `index` where requests held several applications.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.decision import CLIENT_BYTES, ClientHash
from monitoring.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

Keys = NDArray[np.uint64]
"""Shape (n, 2): 128 bits that stand for a client or an application."""

UNKNOWN = -1
_OUTCOME = "outcome"
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcomes by key, sorted by it, each key once.

    Attributes
    ----------
    by : client_id or request_id
    keys : of shape (n, 2)
    outcome : int8, 1 is default
    rows : of the file
    immature : rows without an outcome
    doubled : rows whose key was there before; where they contradict each other, all of them
    """

    by: str
    keys: Keys
    outcome: NDArray[np.int8]
    rows: int
    immature: int
    doubled: int


def read_outcomes(path: Path, client_hash: ClientHash | None) -> Outcomes:
    """The outcomes in a .csv or .parquet file; SourceError if it is not as stated, or needs a key that is not there."""
    keys, outcome, by = [], [], ""
    for table in _tables(path):
        by = _identifier(table, path)
        if by == "client_id" and client_hash is None:
            raise SourceError(
                f"{path}: has client_id, which only the key of the decision log can tell: DECISION_LOG_KEY"
            )
        keys.append(_client_keys(table, client_hash) if client_hash and by == "client_id" else request_keys(table))
        outcome.append(_outcomes(table[_OUTCOME], path))
    if not keys:
        raise SourceError(f"{path}: has no rows")
    return _unique(by, np.concatenate(keys), np.concatenate(outcome))


def request_keys(table: pa.Table) -> Keys:
    """The keys of applications by request_id and index."""
    requests = table["request_id"].to_pylist()
    positions = table["index"].to_pylist() if "index" in table.column_names else [0] * len(requests)
    digests = [
        blake2b(f"{position}:{request}".encode(), digest_size=CLIENT_BYTES).digest()
        for request, position in zip(requests, positions, strict=True)
    ]
    return _keys(b"".join(digests))


def client_keys(hashes: pa.ChunkedArray[Any]) -> Keys:
    """The keys of clients by their hashes as the decision log has them; 0 for none."""
    whole = hashes.combine_chunks().fill_null(bytes(CLIENT_BYTES))
    data = whole.buffers()[1]
    return _keys(memoryview(data)[whole.offset * CLIENT_BYTES : (whole.offset + len(whole)) * CLIENT_BYTES])


def _client_keys(table: pa.Table, client_hash: ClientHash) -> Keys:
    return _keys(b"".join(map(client_hash.digest, table["client_id"].cast("string").to_pylist())))


def _keys(data: bytes | memoryview) -> Keys:
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, 2)


def _tables(path: Path) -> Any:
    """The wanted columns of the file, in blocks; every one of them as text but numbers."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix not in (".csv", ".parquet"):
        raise SourceError(f"{path}: outcomes are a .csv or a .parquet file")
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                wanted = [
                    name for name in ("client_id", "request_id", "index", _OUTCOME) if name in file.schema_arrow.names
                ]
                for batch in file.iter_batches(_BLOCK, columns=wanted):
                    yield pa.table(batch)
        else:
            types = {"client_id": pa.string(), "request_id": pa.string()}
            options = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
            with csv.open_csv(path, convert_options=options) as reader:
                for batch in reader:
                    yield pa.table(batch)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__})") from None


def _identifier(table: pa.Table, path: Path) -> str:
    names = [name for name in ("client_id", "request_id") if name in table.column_names]
    if len(names) != 1 or _OUTCOME not in table.column_names:
        raise SourceError(f"{path}: needs the column {_OUTCOME} and one of client_id and request_id")
    if table[names[0]].null_count:
        raise SourceError(f"{path}: {names[0]} is missing in {table[names[0]].null_count} rows")
    return names[0]


def _outcomes(column: pa.ChunkedArray[Any], path: Path) -> NDArray[np.int8]:
    import pyarrow as pa

    try:
        known = column.cast(pa.float64()).fill_null(UNKNOWN).to_numpy()
    except pa.ArrowException:
        known = np.array([np.nan])
    if not np.isin(known, (0, 1, UNKNOWN)).all():
        raise SourceError(f"{path}: {_OUTCOME} is 1, 0 or empty")
    outcome: NDArray[np.int8] = known.astype(np.int8)
    return outcome


def _unique(by: str, keys: Keys, outcome: NDArray[np.int8]) -> Outcomes:
    rows, mature = len(keys), outcome != UNKNOWN
    keys, outcome = keys[mature], outcome[mature]
    order = np.argsort(keys[:, 0], kind="stable")
    keys, outcome = keys[order], outcome[order]
    same = (keys[1:] == keys[:-1]).all(axis=1)
    group = np.append(0, np.cumsum(~same)) if len(keys) else np.empty(0, np.intp)
    size, bad = np.bincount(group), np.bincount(group, outcome)
    first = np.append(True, ~same)[: len(keys)]
    agreed = (bad == 0) | (bad == size)
    kept = np.flatnonzero(first)[agreed]
    return Outcomes(by, keys[kept], outcome[kept], rows, rows - int(mature.sum()), int(mature.sum()) - len(kept))
