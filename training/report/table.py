"""A table of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells under headings; `align` has one letter for each column, `r` for numbers and `l` for words."""

    align: str
    head: Row
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, align: str, head: Row, rows: Iterable[Row]) -> Self:
        """The table of these rows; ValueError unless each has a cell for every column."""
        rows = tuple(rows)
        if any(len(row) != len(align) for row in (head, *rows)):
            raise ValueError(f"a row has not {len(align)} cells")
        return cls(align, head, rows)
