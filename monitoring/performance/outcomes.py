"""Matured outcomes: a file that says of applications whether they defaulted.

Columns: `outcome`, 1 or true for default, 0 or false for repaid, empty while it is not known yet; and either
`client_id`, which is hashed with the key of the decision log, or `request_id`, with `index` where requests held several
applications.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features import Kind, as_numbers
from monitoring.errors import SourceError
from monitoring.sources import ClientHash, Keyed, Keys, keyed_tables, refuse_rows

UNKNOWN = -1
_OUTCOME = "outcome"


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
    """The outcomes in a .csv or .parquet file; SourceError if it is not as stated, or needs a key that is not there.

    FileError or ColumnsError if it cannot be read as a table.
    """
    keys, outcome, by, floats = [], [], "", 0
    for block in keyed_tables(path, client_hash, [_OUTCOME]):
        by, floats = block.by, floats + block.floats
        keys.append(block.keys)
        outcome.append(_outcomes(block, path))
    if not keys:
        raise SourceError(f"{path}: has no rows")
    return _unique(by, _emptied(keys), _emptied(outcome), floats)


def _outcomes(block: Keyed, path: Path) -> NDArray[np.int8]:
    known, wrong = as_numbers(block.columns[_OUTCOME], Kind.FLAG)
    wrong |= ~np.isnan(known) & ~np.isin(known, (0, 1))
    refuse_rows(path, _OUTCOME, "must be 1, 0, true, false or empty", wrong, block.first_row)
    return np.where(np.isnan(known), UNKNOWN, known).astype(np.int8)


def _emptied(blocks: list[NDArray[Any]]) -> NDArray[Any]:
    """The blocks as one array; only one of the two forms stays in memory."""
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined


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
    """The first row of each key whose rows agree; `same` says of each row but the first that it has the key before."""
    first = np.flatnonzero(np.append(True, ~same))
    bad = np.add.reduceat(outcome, first, dtype=np.int64)
    size = np.diff(np.append(first, len(outcome)))
    agreed: NDArray[np.intp] = first[(bad == 0) | (bad == size)]
    return agreed
