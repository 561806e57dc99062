"""Dates, and categories whose levels are whole numbers: one meaning in JSON, CSV and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from features.files import open_file
from features.portfolio import Portfolio
from features.request import Applications

PORTFOLIO = Portfolio.of({
    "name": "small",
    "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
    "columns": {
        "opened": {"kind": "date", "low": "2000-01-01"},
        "grade": {"kind": "category", "levels": [1, 2, 3], "missing": [9]},
        "amount": {"kind": "number", "missing": [-1, 99.5]},
    },
})  # fmt: skip
READER = Applications(PORTFOLIO)
DAY = 18_293.0  # 2020-02-01


def asked(**stated: Any) -> tuple[float, str | None, float]:
    """What a request is read as: the day, the grade and the amount."""
    columns = READER.columns_of([READER.model.model_validate_json(json.dumps(stated))])
    day, amount = columns.numbers[0].tolist()
    return day, columns.levels[0, 0], amount


def filed(path: Path) -> tuple[float, str | None, list[str]]:
    """What the first row of a file is read as, and the rules that it breaks."""
    [batch] = open_file(path, PORTFOLIO).batches(10)
    day = float(batch.columns.numbers[0, 0])
    return day, batch.columns.levels[0, 0], [str(violation) for violation in batch.violations]


def csv(folder: Path, opened: str, grade: str = "1") -> Path:
    path = folder / "a.csv"
    path.write_text(f"opened,grade,amount\n{opened},{grade},5\n")
    return path


def stored(folder: Path, opened: pa.Array | None = None, grade: pa.Array | None = None) -> Path:
    path = folder / "a.parquet"
    table = {
        "opened": pa.array([None], pa.date32()) if opened is None else opened,
        "grade": pa.array(["1"]) if grade is None else grade,
        "amount": pa.array([5.0]),
    }
    parquet.write_table(pa.table(table), path)
    return path


def test_a_date_of_a_request_is_days_since_1970() -> None:
    assert asked(opened="2020-02-01")[0] == DAY


@pytest.mark.parametrize("text", ["2020-02-01", " 2020-02-01 ", "2020-02-01T23:59:59", "2020-02-01 08:00:00"])
def test_a_date_of_a_csv_file_may_have_a_time_of_day(tmp_path: Path, text: str) -> None:
    assert filed(csv(tmp_path, text)) == (DAY, "1", [])


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["2020-02-01"]).cast(pa.date32()),
        pa.array(["2020-02-01T23:59:00"]).cast(pa.timestamp("us")),
        pa.array(["2020-02-01T23:59:00"]).cast(pa.timestamp("ns")),
        pa.array(["2020-02-01"]),
    ],
    ids=lambda values: str(values.type),
)
def test_a_date_of_a_parquet_file_may_be_stored_as_date_time_or_text(tmp_path: Path, values: pa.Array) -> None:
    assert filed(stored(tmp_path, opened=values)) == (DAY, "1", [])


@pytest.mark.parametrize("text", ["1.2.2020", "2020-13-01", "yesterday", "43862"])
def test_what_is_no_date_is_refused_everywhere_and_not_quoted(tmp_path: Path, text: str) -> None:
    _, _, broken = filed(csv(tmp_path, text))
    assert broken == ["opened: must be a date, as in 2026-01-31 (1 row: 1)"]
    with pytest.raises(ValidationError) as refusal:
        asked(opened=text)
    assert text not in str(refusal.value)


def test_a_date_beyond_its_bounds_is_refused_by_them(tmp_path: Path) -> None:
    assert filed(csv(tmp_path, "1999-12-31"))[2] == ["opened: must be at least 2000-01-01 (1 row: 1)"]
    with pytest.raises(ValidationError, match="Input should be at least 2000-01-01"):
        asked(opened="1999-12-31")


@pytest.mark.parametrize(("stated", "level"), [(2, "2"), (2.0, "2"), ("2", "2"), (7, "7"), (9, "9"), (None, None)])
def test_a_whole_number_of_a_request_is_a_level(stated: object, level: str | None) -> None:
    assert asked(grade=stated)[1] == level


@pytest.mark.parametrize("stated", ["1e999", "true", "2.5", "[2]", "1" + "0" * 400])
def test_what_is_no_level_of_whole_numbers_is_refused_in_a_request(stated: str) -> None:
    with pytest.raises(ValidationError):
        READER.model.model_validate_json(f'{{"grade": {stated}}}')


@pytest.mark.parametrize(
    "values",
    [pa.array([2]), pa.array([2], pa.int8()), pa.array([2.0]), pa.array(["2"]), pa.array(["2.0"]), pa.array([" 2"])],
    ids=lambda values: f"{values.type} {values[0]}",
)
def test_a_whole_number_of_a_parquet_file_is_a_level(tmp_path: Path, values: pa.Array) -> None:
    assert filed(stored(tmp_path, grade=values))[1:] == ("2", [])


@pytest.mark.parametrize("text", ["2", "2.0", " 2 "])
def test_a_whole_number_of_a_csv_file_is_a_level(tmp_path: Path, text: str) -> None:
    assert filed(csv(tmp_path, "2020-02-01", text))[1] == "2"


@pytest.mark.parametrize("code", [-1, 99.5])
def test_every_code_for_missing_is_legal_in_a_request(code: float) -> None:
    assert asked(amount=code)[2] == code
