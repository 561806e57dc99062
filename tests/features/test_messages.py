"""No message and no traceback quotes what an applicant stated."""

from __future__ import annotations

import traceback

import pyarrow as pa
import pytest
from pydantic import ValidationError

from features.errors import FeatureError
from features.files import open_file
from features.transformer import FeatureTransformer
from tests.features.examples import NAMES, REQUIRED, columns, state, write_csv, write_parquet
from tests.home_credit import PORTFOLIO, Application

SECRET = "kgjq4711"
NUMBER = 8675309.25


def said_by(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def broken_lines(kind: str) -> bytes:
    header = ",".join(NAMES)
    row = ",".join({"NAME_CONTRACT_TYPE": SECRET, "AMT_INCOME_TOTAL": "8675309.25"}.get(name, "") for name in NAMES)
    return {
        "short row": f"{header}\n{row}\n{SECRET},8675309.25\n",
        "long row": f"{header}\n{row},{SECRET}\n",
        "open quote": f'{header}\n{row}\n"{row}\n',
        "no header": f"{row}\n{row}\n",
    }[kind].encode()


@pytest.mark.parametrize("kind", ["short row", "long row", "open quote", "no header"])
def test_an_unreadable_csv_file_is_not_quoted(tmp_path, kind):
    path = tmp_path / "a.csv"
    path.write_bytes(broken_lines(kind))
    with pytest.raises(FeatureError) as caught:
        list(open_file(path, PORTFOLIO).batches(10))
    assert SECRET not in said_by(caught.value)
    assert "8675309" not in said_by(caught.value)


def test_text_that_is_not_utf_8_is_not_quoted(tmp_path):
    path = write_csv(tmp_path / "a.csv", {"CODE_GENDER": SECRET})
    path.write_bytes(path.read_bytes().replace(SECRET.encode(), SECRET.encode() + b"\xff"))
    with pytest.raises(FeatureError) as caught:
        list(open_file(path, PORTFOLIO).batches(10))
    assert SECRET not in said_by(caught.value)


RECORDS = [
    {"AMT_CREDIT": SECRET},
    {"AMT_ANNUITY": SECRET},
    {"CNT_CHILDREN": NUMBER},
    {"DAYS_BIRTH": NUMBER},
    {"EXT_SOURCE_1": NUMBER},
    {"CODE_GENDER": SECRET * 20},
    {"FLAG_MOBIL": NUMBER},
    {"REGION_RATING_CLIENT": NUMBER},
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: next(iter(record)))
def test_a_violation_of_a_file_is_not_quoted(tmp_path, record):
    [batch] = open_file(write_csv(tmp_path / "a.csv", record), PORTFOLIO).batches(10)
    said = "; ".join(map(str, batch.violations))
    assert said.startswith(f"{next(iter(record))}: must ")
    assert SECRET not in said
    assert "8675309" not in said


@pytest.mark.parametrize("record", [*RECORDS, {SECRET: 1} | {"AMT_ANNUITY": NUMBER * 1000}], ids=str)
def test_a_refused_request_is_not_quoted(record):
    with pytest.raises(ValidationError) as caught:
        Application.model_validate({**REQUIRED, **record})
    said = said_by(caught.value).replace(f"\n{SECRET}\n", "")  # the name of a field that is not declared
    assert SECRET not in said
    assert "8675309" not in said


def test_a_parquet_file_of_other_types_is_not_quoted(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", 1, AMT_CREDIT=pa.array([SECRET]), CODE_GENDER=pa.array([8675309]))
    [batch] = open_file(path, PORTFOLIO).batches(10)
    assert sorted(map(str, batch.violations)) == [
        "AMT_CREDIT: must be a number (1 row: 1)",
        "CODE_GENDER: must be a text, but is stored as int64 (1 row: 1)",
    ]


def test_columns_of_another_shape_are_not_quoted():
    raw = columns({"AMT_CREDIT": NUMBER, "CODE_GENDER": SECRET})
    short = type(raw)(raw.numbers[:, 1:], raw.levels, raw.portfolio)
    with pytest.raises(FeatureError) as caught:
        FeatureTransformer(state("AMT_CREDIT")).transform(short)
    assert SECRET not in said_by(caught.value)
    assert "8675309" not in said_by(caught.value)
