"""Matured outcomes and other facts about applications or clients: files of them are read and joined to decisions.

Columns of outcomes: `outcome`, 1 or true for default, 0 or false for repaid, empty while it is not known yet; and
either `client_id`, which is hashed with the key of the decision log, or `request_id`, with `index` where requests
held several applications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError, UnmatchedError
from decision_log.format import CLIENT_BYTES, EXPLORED, KEY_FILE_VARIABLE, KEY_VARIABLE, ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.replay import explored_rows
from features.files import open_table
from features.request import LONGEST_CLIENT_ID
from features.schema import ColumnKind
from features.validation import RuleViolation
from features.values import as_client_ids, as_numbers, as_texts, as_whole_numbers
from scoring.policy import DecisionKind

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


if TYPE_CHECKING:
    import pyarrow as pa


UNKNOWN = -1
_OUTCOME = "outcome"


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcomes by key: sorted, and each key once.

    Attributes
    ----------
    by : client_id or request_id
    keys : shape (n, 2)
    outcome : int8, shape (n,), 1 is default
    rows : rows of the file
    immature : rows without an outcome
    doubled : rows that repeat a key; all rows of the key if they contradict each other
    floats : client ids that look like whole numbers which became floats
    """

    by: str
    keys: Keys
    outcome: NDArray[np.int8]
    rows: int
    immature: int
    doubled: int
    floats: int


def read_outcomes(path: Path, client_hash: ClientHash | None) -> Outcomes:
    """Read the outcomes in a .csv or .parquet file; SourceError for other columns or values, or if the key is missing.

    FileError or ColumnsError if it cannot be read as a table.
    """
    keys, outcome, by, floats = [], [], "", 0
    for block in keyed_tables(path, client_hash, [_OUTCOME]):
        by, floats = block.by, floats + block.floats
        keys.append(block.keys)
        outcome.append(_outcomes(block, path))
    if not keys:
        raise SourceError(f"{path}: has no rows")
    return _unique(by, move_into_one(keys), move_into_one(outcome), floats)


def _outcomes(block: Keyed, path: Path) -> NDArray[np.int8]:
    known, wrong = as_numbers(block.columns[_OUTCOME], ColumnKind.FLAG)
    wrong |= ~np.isnan(known) & ~np.isin(known, (0, 1))
    refuse_rows(path, _OUTCOME, "must be 1, 0, true, false or empty", wrong, block.first_row)
    return np.where(np.isnan(known), UNKNOWN, known).astype(np.int8)


def move_into_one(blocks: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the blocks into one array, and empty the list."""
    # a file of ten million outcomes would otherwise be in memory twice
    whole = np.concatenate(blocks)
    blocks.clear()
    return whole


def _unique(by: str, keys: Keys, outcome: NDArray[np.int8], floats: int) -> Outcomes:
    rows, mature = len(keys), outcome != UNKNOWN
    keys, outcome = keys[mature], outcome[mature]
    order = np.argsort(keys[:, 0], kind="stable")
    keys, outcome = keys[order], outcome[order]
    del order
    doubled = 0
    same = (keys[1:] == keys[:-1]).all(axis=1)
    if same.any():
        kept = _agreed(same, outcome)
        doubled = len(keys) - len(kept)
        keys, outcome = keys[kept], outcome[kept]
    return Outcomes(by, keys, outcome, rows, int(np.count_nonzero(~mature)), doubled, floats)


def _agreed(same: NDArray[np.bool_], outcome: NDArray[np.int8]) -> NDArray[np.intp]:
    """The first row of each key whose rows agree; `same` marks rows, from the second on, with the key before."""
    first = np.flatnonzero(np.append(True, ~same))
    bad = np.add.reduceat(outcome, first, dtype=np.int64)
    size = np.diff(np.append(first, len(outcome)))
    # of a contradiction nobody knows which side is right, so the key is left out
    agreed: NDArray[np.intp] = first[(bad == 0) | (bad == size)]
    return agreed


_DECISIONS = list(DecisionKind)
_DECLINE = np.int8(_DECISIONS.index(DecisionKind.DECLINE))
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Decisions with a known outcome; of several decisions of a client, the last one. Arrays have shape (n,).

    Attributes
    ----------
    outcome : int8, 1 is default
    probability : the PD at the decision
    month : int32, months since January 1970
    decision : int8, position in `DecisionKind`; what was approved at random is the decline that it would have been
    explored : bool, whether it was approved at random
    decisions : number of all decisions, by position in `DecisionKind`
    unmatched : decisions without a known outcome
    repeated : decisions of a client before its last one
    unknown : outcomes of no decision in the log
    ambiguous : outcomes of a request_id that names several decisions; they are left out
    """

    outcome: NDArray[np.int8]
    probability: NDArray[np.float64]
    month: NDArray[np.int32]
    decision: NDArray[np.int8]
    explored: NDArray[np.bool_]
    decisions: NDArray[np.int64]
    unmatched: int
    repeated: int
    unknown: int
    ambiguous: int = 0

    def of_rows(self, rows: NDArray[np.bool_]) -> Matched:
        """Those of the marked rows; the counts stay."""
        names = ("outcome", "probability", "month", "decision", "explored")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def match(log: DecisionLogReader, outcomes: Outcomes, progress: Callable[[int], object] = lambda _: None) -> Matched:
    """Join the outcomes to the decisions of the log; SourceError if no decision has an outcome."""
    several = ambiguous_keys(log, outcomes.by, outcomes.keys)
    matching = _Matching(replace(outcomes, keys=outcomes.keys[~several], outcome=outcomes.outcome[~several]))
    for table in log.tables([*decision_columns(outcomes.by), "time", "probability", "decision", EXPLORED]):
        matching.add(decision_keys(outcomes.by, table), table)
        progress(table.num_rows)
    return matching.result(log, int(np.count_nonzero(several)))


class _Matching:
    """The last decision of each outcome so far, while the log is read block by block."""

    # Arrays are as long as the outcomes, not as the log, which may be many times larger.

    def __init__(self, outcomes: Outcomes) -> None:
        count = len(outcomes.outcome)
        self._outcomes = outcomes
        self._time = np.full(count, _NEVER)
        self._probability = np.empty(count)
        self._decision = np.zeros(count, dtype=np.int8)
        self._explored = np.zeros(count, dtype=np.bool_)
        self._decisions = np.zeros(len(_DECISIONS), dtype=np.int64)
        self._found = 0

    def add(self, keys: Keys, table: pa.Table) -> None:
        """Add one block of decisions."""
        explored = explored_rows(table)
        decision = np.where(explored, _DECLINE, decision_codes(table["decision"]))
        self._decisions += np.bincount(decision, minlength=len(_DECISIONS))
        time = table["time"].cast("int64").to_numpy()
        row = np.argsort(time, kind="stable")  # the last of several decisions is written last and stays
        place = places(self._outcomes.keys, keys[row])
        row, place = row[place >= 0], place[place >= 0]
        self._found += len(row)
        later = time[row] >= self._time[place]
        row, place = row[later], place[later]
        self._time[place] = time[row]
        self._probability[place] = table["probability"].to_numpy()[row]
        self._decision[place] = decision[row]
        self._explored[place] = explored[row]

    def result(self, log: DecisionLogReader, ambiguous: int) -> Matched:
        """The matched decisions of all blocks; SourceError if there is none."""
        matched = self._time != _NEVER
        count = int(np.count_nonzero(matched))
        if not count:
            hint = unmatched(self._outcomes.by, self._outcomes.floats)
            raise UnmatchedError(f"{log.directory}: no decision of this model and time has an outcome{hint}")
        time = self._time[matched].view("datetime64[us]")
        return Matched(
            outcome=self._outcomes.outcome[matched],
            probability=self._probability[matched],
            month=time.astype("datetime64[M]").astype(np.int32),
            decision=self._decision[matched],
            explored=self._explored[matched],
            decisions=self._decisions,
            unmatched=int(self._decisions.sum()) - self._found,
            repeated=self._found - count,
            unknown=len(matched) - count,
            ambiguous=ambiguous,
        )


def decision_codes(column: pa.ChunkedArray[Any]) -> NDArray[np.int8]:
    """Return the position of each decision in `DecisionKind`."""
    import pyarrow as pa

    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    codes = np.array([_DECISIONS.index(DecisionKind(name)) for name in whole.dictionary.to_pylist()], dtype=np.int8)
    chosen: NDArray[np.int8] = codes[whole.indices.to_numpy()]
    return chosen
