"""A portfolio with two tables of histories, one of which hangs on the other, and rows for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from features.portfolio import Portfolio

FOLDER = Path(__file__).resolve().parents[1] / "portfolios" / "with_histories"
LENDER = Portfolio.load(FOLDER)
DECLARED: dict[str, Any] = json.loads(LENDER.content)

CREDITS = {
    "client": ["anna", "anna", "anna", "ben", "cleo"],
    "credit": ["1", "2", "3", "4", "5"],
    "days": [-10, -100, -1000, -400, -30],
    "state": ["open", "open", "closed", "XNA", "closed"],
    "debt": [100.5, 50.25, 7.0, None, 3.0],
}
MONTHS = {"credit": ["1", "1", "3", "5"], "month": [-1, -2, -3, -1], "late": [0, 1, 0, 0]}
EXPECTED = {"anna": [1.0, 2.0, 150.75, 0.5], "ben": [0.0, 0.0, None, None], "cleo": [1.0, 1.0, None, 0.0]}
"""credits_90d, credits_365d, open_debt and late_credits; a credit without months is neither late nor not."""


def write_histories(folder: Path) -> Path:
    """Write both tables into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(CREDITS), folder / "credits.parquet")
    parquet.write_table(pa.table(MONTHS), folder / "months.parquet")
    return folder
