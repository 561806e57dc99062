"""Protected attributes of applicants, from a file that the model never sees.

Columns: `client_id`, or `request_id` and perhaps `index`; every other column is an attribute, its values the groups.
An empty cell, null and the words for missing are one group, "not stated".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features import as_texts
from monitoring.errors import SourceError
from monitoring.sources import ClientHash, Keyed, Keys, keyed_tables, refuse_rows

NOT_STATED = "not stated"
_MOST_GROUPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Protected:
    """Attributes by key, sorted by it; `groups` holds the group of each row, shape (n,), by attribute.

    `floats` counts the client ids that look like whole numbers which became floats.
    """

    by: str
    keys: Keys
    groups: dict[str, NDArray[np.object_]]
    floats: int


def read_protected(path: Path, client_hash: ClientHash | None) -> Protected:
    """The attributes in a .csv or .parquet file.

    SourceError if it is not as stated, names somebody twice, or an attribute has too many groups to be one.
    """
    blocks = list(keyed_tables(path, client_hash))
    if not blocks or not blocks[0].columns.column_names:
        raise SourceError(f"{path}: has no attribute")
    keys = np.concatenate([block.keys for block in blocks])
    order = np.argsort(keys[:, 0], kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).all(axis=1).any():
        raise SourceError(f"{path}: somebody is named twice")
    groups = {}
    for name in blocks[0].columns.column_names:
        stated = [group for block in blocks for group in _groups(block, name, path)]
        groups[name] = np.array(stated, dtype=object)[order]
        if len(set(groups[name])) > _MOST_GROUPS:
            raise SourceError(f"{path}: {name} has more than {_MOST_GROUPS} values; put them into bands")
    return Protected(blocks[0].by, keys, groups, sum(block.floats for block in blocks))


def _groups(block: Keyed, name: str, path: Path) -> list[str]:
    groups, wrong = as_texts(block.columns[name])
    refuse_rows(path, name, "must be a text", wrong, block.first_row)
    return [NOT_STATED if group is None else group.strip() for group in groups.to_pylist()]
