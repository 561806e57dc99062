"""Protected attributes of applicants, from a file that the model never sees.

Columns: `client_id`, or `request_id` and perhaps `index`; every other column is an attribute, its values the groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import SourceError
from monitoring.sources import ClientHash, Keys, keyed_tables

NOT_STATED = "not stated"
_MOST_GROUPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Protected:
    """Attributes by key, sorted by it; `groups` holds the group of each row, shape (n,), by attribute."""

    by: str
    keys: Keys
    groups: dict[str, NDArray[np.object_]]


def read_protected(path: Path, client_hash: ClientHash | None) -> Protected:
    """The attributes in a .csv or .parquet file.

    SourceError if it is not as stated, names somebody twice, or an attribute has too many groups to be one.
    """
    blocks = list(keyed_tables(path, client_hash))
    if not blocks or not blocks[0][2].column_names:
        raise SourceError(f"{path}: has no attribute")
    keys = np.concatenate([block for _, block, _ in blocks])
    order = np.argsort(keys[:, 0], kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).all(axis=1).any():
        raise SourceError(f"{path}: somebody is named twice")
    groups = {}
    for name in blocks[0][2].column_names:
        values = [block[name].cast("string").fill_null(NOT_STATED).to_pylist() for _, _, block in blocks]
        groups[name] = np.array([value for block in values for value in block], dtype=object)[order]
        if len(set(groups[name])) > _MOST_GROUPS:
            raise SourceError(f"{path}: {name} has more than {_MOST_GROUPS} values; put them into bands")
    return Protected(blocks[0][0], keys, groups)
