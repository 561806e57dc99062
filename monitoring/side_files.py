"""Files about applications or clients, such as outcomes, and the keys that join them to decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import CLIENT_BYTES, KEY_FILE_VARIABLE, KEY_VARIABLE, ClientHash
from features.files import open_table
from features.request import LONGEST_CLIENT_ID
from features.validation import RuleViolation
from features.values import as_client_ids, as_texts, as_whole_numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from decision_log.reader import DecisionLogReader


Keys = NDArray[np.uint64]
"""Shape (n, 2): a hash of 128 bits for each client or application."""

NAMES = ("client_id", "request_id")
INDEX = "index"
_BLOCK = 1 << 18
# pandas writes whole numbers as floats if one of them is missing, and spreadsheets write large ones with an exponent
_FLOAT = r"^\s*\d+(\.0+|(\.\d+)?[eE]\+?\d+)\s*$"


@dataclass(frozen=True, slots=True, eq=False)
class Keyed:
    """A block of rows from a file about applications, with their keys.

    Attributes
    ----------
    by : client_id or request_id
    keys : shape (n, 2)
    columns : the other columns as they are stored; every column of a CSV file is text
    first_row : position of the first row in the file, counted from 0
    floats : client ids that look like whole numbers which became floats
    """

    by: str
    keys: Keys
    columns: pa.Table
    first_row: int
    floats: int


def keyed_tables(path: Path, client_hash: ClientHash | None, columns: Sequence[str] | None = None) -> Iterator[Keyed]:
    """Read the keys and `columns` of a .csv or .parquet file in blocks; without `columns`, all but the keys' own.

    FileError or ColumnsError if it cannot be read or lacks a column. SourceError if a row has no id, or if there is
    no key to hash client ids with.
    """
    file = open_table(path, known={*NAMES, *(columns or ())})
    by = _identifier(file.header, path)
    if by == "client_id" and client_hash is None:
        raise SourceError(
            f"{path}: client_id needs the key of the decision log in {KEY_VARIABLE} or {KEY_FILE_VARIABLE}"
        )
    values = [name for name in file.header if name not in (by, INDEX)] if columns is None else columns
    positions = [INDEX] if by == "request_id" and INDEX in file.header else []
    first_row = 0
    for table in file.blocks([by, *positions, *values], _BLOCK):
        names, wrong = as_client_ids(table[by]) if by == "client_id" else as_texts(table[by])
        refuse_rows(path, by, f"must be a text of 1 to {LONGEST_CLIENT_ID} characters", wrong, first_row)
        refuse_rows(path, by, "is missing", names.is_null().to_numpy(), first_row)
        if client_hash is not None and by == "client_id":
            keys = _keys(b"".join(map(client_hash.digest, names.to_pylist())))
        else:
            keys = _request_keys(names, _positions(table, path, first_row))
        yield Keyed(by, keys, table.select(values), first_row, _floats(names) if by == "client_id" else 0)
        first_row += table.num_rows


def refuse_rows(path: Path, column: str, rule: str, rows: NDArray[np.bool_], first_row: int) -> None:
    """Raise SourceError with the rows of a block that break a rule, if there are any."""
    if rows.any():
        violation = RuleViolation(column, rule, np.flatnonzero(rows)).shifted(first_row)
        raise SourceError(f"{path}: {violation}")


def unmatched(by: str, floats: int) -> str:
    """The likely reason why no key of a file is in the log: ids that became floats, or another hash key.

    Empty for request ids that are no floats, which need no hash key.
    """
    if floats:
        return f"; {floats:,} of the client ids in the file look like floats, as 7.0 for 7: write them as in requests"
    return f"; is {KEY_VARIABLE} the key that the log was written with?" if by == "client_id" else ""


def request_keys(table: pa.Table) -> Keys:
    """The keys of a block of decisions, by request_id and index."""
    return _request_keys(table["request_id"], table[INDEX].to_pylist())


def client_keys(hashes: pa.ChunkedArray[Any]) -> Keys:
    """The keys of clients, from their hashes in the decision log; 0 for no client."""
    return _keys(b"".join(hashes.fill_null(bytes(CLIENT_BYTES)).to_pylist()))


def decision_columns(by: str) -> Sequence[str]:
    """The columns of the decision log that make the keys."""
    return ("client",) if by == "client_id" else ("request_id", INDEX)


def decision_keys(by: str, table: pa.Table) -> Keys:
    """The keys of a block of decisions."""
    return client_keys(table["client"]) if by == "client_id" else request_keys(table)


def ambiguous_keys(log: DecisionLogReader, by: str, known: Keys) -> NDArray[np.bool_]:
    """Which of the known keys, sorted, name several decisions with different margins.

    A client may have any number of decisions, so no client is ambiguous.
    """
    # A caller chooses request ids and may use one twice. A request that is sent again after a timeout has the same
    # margin, bit for bit, and counts as the same decision.
    low, high = np.full(len(known), np.inf), np.full(len(known), -np.inf)
    if by != "request_id":
        return low < high
    for table in log.tables([*decision_columns(by), "margin"]):
        place = places(known, decision_keys(by, table))
        there = place >= 0
        margin = table["margin"].to_numpy()[there]
        np.minimum.at(low, place[there], margin)
        np.maximum.at(high, place[there], margin)
    return low < high


def places(known: NDArray[np.uint64], keys: Keys) -> NDArray[np.intp]:
    """The position of each key in `known`, which is sorted by its first column; -1 where it is not there."""
    if not len(known):
        return np.full(len(keys), -1)
    # Rows are found by 64 bits of the key, and all 128 are compared. Among ten million keys two share those 64 bits
    # with a probability of 3 in a million, and then one of them is not found.
    order = np.argsort(keys[:, 0])  # a search in order stays in the processor's cache
    place = np.empty(len(keys), dtype=np.intp)
    place[order] = np.minimum(np.searchsorted(known[:, 0], keys[order, 0]), len(known) - 1)
    return np.where((known[place] == keys).all(axis=1), place, -1)


def _digest(request: str, position: int) -> bytes:
    # a hash and not the text: keys of one size fit into an array, 16 bytes each
    return blake2b(f"{position}:{request}".encode(), digest_size=CLIENT_BYTES).digest()


def _keys(data: bytes) -> Keys:
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, 2)


def _request_keys(requests: pa.ChunkedArray[Any], positions: Sequence[int]) -> Keys:
    return _keys(b"".join(_digest(*pair) for pair in zip(requests.to_pylist(), positions, strict=True)))


def _positions(table: pa.Table, path: Path, first_row: int) -> Sequence[int]:
    if INDEX not in table.column_names:
        return [0] * table.num_rows
    positions, missing, wrong = as_whole_numbers(table[INDEX])
    refuse_rows(path, INDEX, "must be a whole number", missing | wrong, first_row)
    return list(map(int, positions))


def _floats(names: pa.ChunkedArray[Any]) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.match_substring_regex(names, _FLOAT)).as_py() or 0)


def _identifier(header: Sequence[str], path: Path) -> str:
    names = [name for name in NAMES if name in header]
    if len(names) != 1:
        raise SourceError(f"{path}: needs exactly one of the columns {' and '.join(NAMES)}")
    return names[0]
