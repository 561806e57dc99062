"""Generated applications as requests have them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from features.schema import Column
from tests.home_credit import APPLICATION

Application = dict[str, Any]


def applications(file: Path) -> list[Application]:
    """The rows of a CSV file of applications."""
    with file.open(newline="") as rows:
        return [
            {column.name: _value(row[column.name], column) for column in APPLICATION.stated}
            for row in csv.DictReader(rows)
        ]


def _value(text: str, column: Column) -> float | int | str | None:
    if not text:
        return None
    if not column.numeric:
        return text
    return int(float(text)) if column.whole else float(text)
