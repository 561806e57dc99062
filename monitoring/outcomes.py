"""Matured outcomes: reads a file of defaults and joins it to the decisions of the log.

Columns: `outcome`, 1 or true for default, 0 or false for repaid, empty while it is not known yet; and either
`client_id`, which is hashed with the key of the decision log, or `request_id`, with `index` where requests held several
applications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import ClientHash
from decision_log.reader import DecisionLogReader
from features.schema import ColumnKind
from features.values import as_numbers
from monitoring.side_files import (
    Keyed,
    Keys,
    ambiguous_keys,
    decision_columns,
    decision_keys,
    keyed_tables,
    places,
    refuse_rows,
    unmatched,
)
from scoring.policy import DecisionKind

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
    return _unique(by, _move_into_one(keys), _move_into_one(outcome), floats)


def _outcomes(block: Keyed, path: Path) -> NDArray[np.int8]:
    known, wrong = as_numbers(block.columns[_OUTCOME], ColumnKind.FLAG)
    wrong |= ~np.isnan(known) & ~np.isin(known, (0, 1))
    refuse_rows(path, _OUTCOME, "must be 1, 0, true, false or empty", wrong, block.first_row)
    return np.where(np.isnan(known), UNKNOWN, known).astype(np.int8)


def _move_into_one(blocks: list[NDArray[Any]]) -> NDArray[Any]:
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
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Decisions with a known outcome; of several decisions of a client, the last one. Arrays have shape (n,).

    Attributes
    ----------
    outcome : int8, 1 is default
    probability : the PD at the decision
    month : int32, months since January 1970
    decision : int8, position in `DecisionKind`
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
    decisions: NDArray[np.int64]
    unmatched: int
    repeated: int
    unknown: int
    ambiguous: int = 0


def match(log: DecisionLogReader, outcomes: Outcomes, progress: Callable[[int], object] = lambda _: None) -> Matched:
    """Join the outcomes to the decisions of the log; SourceError if no decision has an outcome."""
    several = ambiguous_keys(log, outcomes.by, outcomes.keys)
    matching = _Matching(replace(outcomes, keys=outcomes.keys[~several], outcome=outcomes.outcome[~several]))
    for table in log.tables([*decision_columns(outcomes.by), "time", "probability", "decision"]):
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
        self._decisions = np.zeros(len(_DECISIONS), dtype=np.int64)
        self._found = 0

    def add(self, keys: Keys, table: pa.Table) -> None:
        """Add one block of decisions."""
        decision = _codes(table["decision"])
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

    def result(self, log: DecisionLogReader, ambiguous: int) -> Matched:
        """The matched decisions of all blocks; SourceError if there is none."""
        matched = self._time != _NEVER
        count = int(np.count_nonzero(matched))
        if not count:
            hint = unmatched(self._outcomes.by, self._outcomes.floats)
            raise SourceError(f"{log.directory}: no decision of this model and time has an outcome{hint}")
        time = self._time[matched].view("datetime64[us]")
        return Matched(
            outcome=self._outcomes.outcome[matched],
            probability=self._probability[matched],
            month=time.astype("datetime64[M]").astype(np.int32),
            decision=self._decision[matched],
            decisions=self._decisions,
            unmatched=int(self._decisions.sum()) - self._found,
            repeated=self._found - count,
            unknown=len(matched) - count,
            ambiguous=ambiguous,
        )


def _codes(column: pa.ChunkedArray[Any]) -> NDArray[np.int8]:
    """The position of each decision in `DecisionKind`."""
    import pyarrow as pa

    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    codes = np.array([_DECISIONS.index(DecisionKind(name)) for name in whole.dictionary.to_pylist()], dtype=np.int8)
    chosen: NDArray[np.int8] = codes[whole.indices.to_numpy()]
    return chosen
