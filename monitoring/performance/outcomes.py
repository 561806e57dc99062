"""Matured outcomes: a file that says of applications whether they defaulted.

Columns: `outcome`, 1 for default, 0 for repaid, empty while it is not known yet; and either `client_id`, which is
hashed with the key of the decision log, or `request_id`, with `index` where requests held several applications.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import SourceError
from monitoring.sources import ClientHash, Keys, keyed_tables

if TYPE_CHECKING:
    import pyarrow as pa

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
    for by, block, others in keyed_tables(path, client_hash):  # noqa: B007 - the same in every block
        if _OUTCOME not in others.column_names:
            raise SourceError(f"{path}: column missing: {_OUTCOME}")
        keys.append(block)
        outcome.append(_outcomes(others[_OUTCOME], path))
    if not keys:
        raise SourceError(f"{path}: has no rows")
    return _unique(by, _emptied(keys), _emptied(outcome))


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


def _emptied(blocks: list[NDArray[Any]]) -> NDArray[Any]:
    """The blocks as one array; only one of the two forms stays in memory."""
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined


def _unique(by: str, keys: Keys, outcome: NDArray[np.int8]) -> Outcomes:
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
    return Outcomes(by, keys, outcome, rows, int(np.count_nonzero(~mature)), doubled)


def _agreed(same: NDArray[np.bool_], outcome: NDArray[np.int8]) -> NDArray[np.intp]:
    """The first row of each key whose rows agree; `same` says of each row but the first that it has the key before."""
    first = np.flatnonzero(np.append(True, ~same))
    bad = np.add.reduceat(outcome, first, dtype=np.int64)
    size = np.diff(np.append(first, len(outcome)))
    agreed: NDArray[np.intp] = first[(bad == 0) | (bad == size)]
    return agreed
