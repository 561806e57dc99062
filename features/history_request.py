"""The pydantic models of a client's histories in a request, and their roll-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, StrictStr, create_model

from features.histories import Histories, History
from features.request import LONGEST_LEVEL, Record, field_of, getter
from features.rollups import HistoryRows, roll_up

MOST_ROWS = 5_000
"""Rows that a request may have in one table."""

_CLIENT = np.zeros(1, dtype=np.int64)
"""The one client of a request, whatever the caller's name for it is."""

_RowName = Annotated[StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_LEVEL)], Field()]


class HistoryRequest(Record):
    """What is known of a client before the application: for each table its rows. An absent table has none."""


class HistoryReader:
    """Reads the histories of one client.

    Attributes
    ----------
    model : the pydantic model of the `history` of a request
    """

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._tables = [_TableReader(table) for table in histories.tables]
        parts: Any = {
            f"t{i}": (list[table.model], Field(default=[], alias=table.name, max_length=MOST_ROWS))  # type: ignore[name-defined]
            for i, table in enumerate(self._tables)
        }
        self.model = cast("type[HistoryRequest]", create_model("History", __base__=HistoryRequest, **parts))
        self.model.__doc__ = HistoryRequest.__doc__

    def roll_up(self, history: HistoryRequest, day: float) -> NDArray[np.float64]:
        """The roll-ups of the client on a day since 1970-01-01, shape (n_rollups,)."""
        stated, names = history.__dict__, _Names()
        rows = {
            table.name: table.rows(stated[f"t{i}"], names) for i, table in enumerate(self._tables) if stated[f"t{i}"]
        }
        rolled_up: NDArray[np.float64] = roll_up(self._histories, rows, _CLIENT, np.array([day]))[0]
        return rolled_up


class _TableReader:
    """Reads the rows of one table; `model` is the pydantic model of a row."""

    def __init__(self, history: History) -> None:
        self.name = history.name
        fields = {column.name: f"c{i}" for i, column in enumerate(history.stated)}
        parts: Any = {fields[column.name]: field_of(column) for column in history.stated}
        if history.id is not None:
            parts["row"] = (_RowName, Field(alias=history.id, description="Names the row"))
        self._named = history.id is not None
        self._hangs = history.parent is not None
        if self._hangs:
            parts["of"] = (_RowName, Field(alias=history.key, description=f"The row of {history.parent} it belongs to"))
        self.model = create_model("Row", __base__=Record, **parts)
        self.model.__doc__ = f"One row of {history.name}."
        self._values = getter([fields[column.name] for column in history.stated])
        self._codes = [
            (i, {level: float(code) for code, level in enumerate(column.levels)}, float(len(column.levels)), column)
            for i, column in enumerate(history.stated)
            if not column.numeric
        ]

    def rows(self, records: Sequence[Record], names: _Names) -> HistoryRows:
        """The rows of the one client."""
        stated = [list(self._values(record.__dict__)) for record in records]
        for i, codes, unknown, column in self._codes:
            for row in stated:
                level = row[i]
                row[i] = None if level is None or column.is_missing(level) else codes.get(level, unknown)
        values = np.ascontiguousarray(np.array(stated, dtype=np.float64).T)
        keys = names.of(records, "of") if self._hangs else np.zeros(len(records), dtype=np.int64)
        return HistoryRows(values, keys, names.of(records, "row") if self._named else None)


class _Names:
    """Numbers the names of the rows of one request, as texts: 7 and "7" are one name, as in a file."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, records: Sequence[Record], field: str) -> NDArray[np.int64]:
        """The number of the name in a field of each row."""
        known = self._numbers
        return np.array([known.setdefault(str(one.__dict__[field]), len(known)) for one in records], dtype=np.int64)
