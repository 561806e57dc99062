"""Files that say something of applications or clients, and the keys that join them to decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.decision import CLIENT_BYTES, ClientHash
from monitoring.errors import SourceError
from monitoring.recording import FILE_VARIABLE, VARIABLE

if TYPE_CHECKING:
    import pyarrow as pa

Keys = NDArray[np.uint64]
"""Shape (n, 2): 128 bits that stand for a client or an application."""

NAMES = ("client_id", "request_id")
INDEX = "index"
_BLOCK = 1 << 18


def keyed_tables(path: Path, client_hash: ClientHash | None) -> Iterator[tuple[str, Keys, pa.Table]]:
    """The column that names applications, their keys, and the other columns of a .csv or .parquet file, in blocks.

    SourceError if it cannot be read, names nobody or some rows nothing, or has client ids and there is no key.
    """
    for table in _tables(path):
        by = _identifier(table, path)
        others = table.drop_columns([name for name in (by, INDEX) if name in table.column_names])
        if by == "request_id":
            yield by, request_keys(table), others
        elif client_hash is None:
            raise SourceError(f"{path}: client_id needs the key of the decision log in {VARIABLE} or {FILE_VARIABLE}")
        else:
            clients = table[by].cast("string").to_pylist()
            yield by, _keys(b"".join(map(client_hash.digest, clients))), others


def unmatched(by: str) -> str:
    """What to think of where no key is found in a log: nothing, or the key that clients are hashed with."""
    return f"; is {VARIABLE} the key that the log was written with?" if by == "client_id" else ""


def request_keys(table: pa.Table) -> Keys:
    """The keys of applications by request_id and index."""
    requests = table["request_id"].to_pylist()
    positions = table[INDEX].to_pylist() if INDEX in table.column_names else [0] * len(requests)
    return _keys(b"".join(_digest(*pair) for pair in zip(requests, positions, strict=True)))


def client_keys(hashes: pa.ChunkedArray[Any]) -> Keys:
    """The keys of clients by their hashes as the decision log has them; 0 for none."""
    return _keys(b"".join(hashes.fill_null(bytes(CLIENT_BYTES)).to_pylist()))


def decision_columns(by: str) -> Sequence[str]:
    """The columns of the decision log that the keys are made of."""
    return ("client",) if by == "client_id" else ("request_id", INDEX)


def decision_keys(by: str, table: pa.Table) -> Keys:
    """The keys of a block of decisions."""
    return client_keys(table["client"]) if by == "client_id" else request_keys(table)


def places(known: NDArray[np.uint64], keys: Keys) -> NDArray[np.intp]:
    """The position of each key in `known`, which is sorted by its first column; -1 where it is not there."""
    if not len(known):
        return np.full(len(keys), -1)
    order = np.argsort(keys[:, 0])  # a search in order stays in the processor's cache
    place = np.empty(len(keys), dtype=np.intp)
    place[order] = np.minimum(np.searchsorted(known[:, 0], keys[order, 0]), len(known) - 1)
    return np.where((known[place] == keys).all(axis=1), place, -1)


def _digest(request: str, position: int) -> bytes:
    return blake2b(f"{position}:{request}".encode(), digest_size=CLIENT_BYTES).digest()


def _keys(data: bytes) -> Keys:
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, 2)


def _tables(path: Path) -> Iterator[pa.Table]:
    """The file in blocks; of a CSV file the names are text, whatever they look like."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix not in (".csv", ".parquet"):
        raise SourceError(f"{path}: must be a .csv or a .parquet file")
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                yield from (pa.table(batch) for batch in file.iter_batches(_BLOCK))
        else:
            options = csv.ConvertOptions(column_types=dict.fromkeys(NAMES, pa.string()))
            with csv.open_csv(path, convert_options=options) as reader:
                yield from map(pa.table, reader)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__})") from None


def _identifier(table: pa.Table, path: Path) -> str:
    names = [name for name in NAMES if name in table.column_names]
    if len(names) != 1:
        raise SourceError(f"{path}: needs exactly one of the columns {' and '.join(NAMES)}")
    if table[names[0]].null_count:
        raise SourceError(f"{path}: {names[0]} is missing in {table[names[0]].null_count} rows")
    return names[0]
