"""A portfolio with two tables of histories, one of which hangs on the other, and rows for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from features.portfolio import Portfolio

DECLARED: dict[str, Any] = {
    "name": "lender",
    "identity": {"column": "client", "kind": "text"},
    "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
    "columns": {"income": {"kind": "number", "low": 0, "required": True}},
    "histories": {
        "credits": {
            "id": "credit",
            "time": {"column": "days"},
            "columns": {
                "days": {"kind": "count", "high": 0},
                "state": {"kind": "category", "levels": ["open", "closed"], "missing": ["XNA"]},
                "debt": {"kind": "number"},
            },
            "rollups": {
                "credits": {"aggregate": "count", "within": [90, 365]},
                "open_debt": {"aggregate": "sum", "of": "debt", "where": 'state == "open"'},
                "late_credits": {"aggregate": "share", "of": "late_months > 0"},
            },
        },
        "months": {
            "parent": "credits",
            "time": {"column": "month", "unit": "months"},
            "columns": {"month": {"kind": "count", "high": 0}, "late": {"kind": "flag"}},
            "rollups": {"late_months": {"aggregate": "sum", "of": "late"}},
        },
    },
    "features": {"ratios": {"debt_to_income": {"is": "open_debt / income"}}},
}
LENDER = Portfolio.of(DECLARED)

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
