"""Tables of applications in the memory of another program become tables of decisions: a task of Spark, a notebook.

Needs pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.files import read_from, read_table
from scoring.batch import decide, errors_of
from scoring.reasons import MOST_REASONS
from scoring.store import StoredModel, load_folder

_TEXT, _WHOLE = pa.string(), pa.int64()

DECISIONS = pa.schema([
    ("status", _TEXT),
    ("probability", pa.float64()),
    ("prediction", _WHOLE),
    ("decision", _TEXT),
    ("risk_level", _TEXT),
    ("score", _WHOLE),
    ("missing", _WHOLE),
    ("unknown", _WHOLE),
    ("unknown_columns", _TEXT),
    ("withheld", _TEXT),
    *((f"reason_{place + 1}", _TEXT) for place in range(MOST_REASONS)),
    ("model_version", _TEXT),
    ("errors", pa.list_(pa.struct([("column", _TEXT), ("rule", _TEXT)]))),
])  # fmt: skip
"""The columns that are told of each application, after those that are carried over."""

_LISTED = 8


class TableScorer:
    """Decides tables of applications by a model; the columns `carry` go over into the decisions, in front of them."""

    def __init__(self, model: StoredModel, *, carry: Sequence[str] = ()) -> None:
        self.model = model
        self.carry = tuple(carry)

    def score(self, table: pa.Table | pa.RecordBatch) -> pa.RecordBatch:
        """The decisions on the rows of a table, in their order: the columns `carry`, then those of `DECISIONS`.

        A row that breaks a declared rule is `rejected`, has its `errors` and nothing else. ColumnsError if a declared
        column or one of `carry` is absent.
        """
        portfolio = self.model.scorer.artefact.portfolio
        wanted = (*read_from(table.schema.names, portfolio), *self.carry)
        if absent := [name for name in wanted if name not in table.schema.names]:
            more = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
            raise ColumnsError(f"column missing: {', '.join(absent[:_LISTED])}{more}")
        whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        batch = read_table(whole, portfolio, others=self.carry)
        decided = decide(batch, self.model)
        places = pa.array(np.cumsum(decided.scored) - 1, mask=~decided.scored)
        columns = {
            **{name: batch.others[name] for name in self.carry},
            **{name: decided.table[name].take(places) for name in decided.table.column_names},
            "status": _status(decided.scored),
            "errors": errors_of(batch, np.arange(len(batch))),
        }
        carried = [table.schema.field(name) for name in self.carry]
        schema = pa.schema([*carried, *DECISIONS])
        return pa.RecordBatch.from_arrays([_one_array(columns[name]) for name in schema.names], schema=schema)


@cache
def table_scorer(folder: str, *, carry: tuple[str, ...] = ()) -> TableScorer:
    """The scorer of the model in a folder, loaded once in a process; ArtefactError as in `load_folder`."""
    return TableScorer(load_folder(Path(folder)), carry=carry)


def _status(scored: NDArray[np.bool_]) -> pa.Array:
    words = pa.array(["rejected", "scored"])
    return words.take(pa.array(scored.astype(np.int8)))


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
