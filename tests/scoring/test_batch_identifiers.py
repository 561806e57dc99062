"""How the results of a batch job name the applicants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from features import FeatureError
from scoring import OutputError, score_files
from tests.features.examples import NAMES, write_csv
from tests.scoring.jobs import parquet_of, parts, people, refused, rows

HEADER = ("SK_ID_CURR", *NAMES)


@pytest.mark.parametrize(
    ("identifier", "kind", "ids", "expected"),
    [
        ("SK_ID_CURR", pa.int64(), [9, 1, 5], [9, 1, 5]),
        ("SK_ID_CURR", pa.int32(), [9, 1, 5], [9, 1, 5]),
        ("SK_ID_CURR", pa.float64(), [9.0, 1.0, 5.0], [9, 1, 5]),
        ("SK_ID_CURR", pa.string(), ["9", "1", "5"], [9, 1, 5]),
        ("client_id", pa.string(), ["b", "007", "7"], ["b", "007", "7"]),
        ("client_id", pa.large_string(), ["b", "007", "7"], ["b", "007", "7"]),
        ("client_id", pa.int64(), [9, 1, 5], ["9", "1", "5"]),
    ],
    ids=str,
)
def test_identifiers_are_kept_in_their_order(small, output, tmp_path, identifier, kind, ids, expected):
    score_files(parquet_of(tmp_path / "a.parquet", pa.array(ids, kind), identifier), output, small, chunk_rows=2)
    table = pa.concat_tables(parts(output))
    assert table.column_names[0] == identifier
    assert table[identifier].to_pylist() == expected
    assert table[identifier].type == (pa.int64() if identifier == "SK_ID_CURR" else pa.string())


@pytest.mark.parametrize(("identifier", "expected"), [("SK_ID_CURR", [7, 8]), ("client_id", ["007", "8"])])
def test_an_identifier_of_a_csv_file_has_the_type_of_its_name(small, output, tmp_path, identifier, expected):
    score_files(people(tmp_path / "a.csv", "007", "8", identifier=identifier), output, small)
    assert [row[identifier] for row in rows(output)] == expected


def test_the_number_names_an_applicant_who_has_both(small, output, tmp_path):
    source = write_csv(tmp_path / "a.csv", {"client_id": "a", "SK_ID_CURR": 7}, header=("client_id", *HEADER))
    score_files(source, output, small)
    [row] = rows(output)
    assert row["SK_ID_CURR"] == 7
    assert "client_id" not in row


def test_applicants_are_named_by_what_every_file_has(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    write_csv(source / "a.csv", {"client_id": "a", "SK_ID_CURR": 7}, header=("client_id", *HEADER))
    people(source / "b.csv", "b", identifier="client_id")
    score_files(source, output, small)
    assert [row["client_id"] for row in rows(output)] == ["a", "b"]


def test_a_file_that_names_no_applicants_is_refused(small, output, tmp_path):
    source = write_csv(tmp_path / "a.csv", {})
    said = refused(source, output, small, OutputError)
    assert said == f"{source}: neither SK_ID_CURR nor client_id names the applicants"


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ((1, 2, 1, 3), "0 missing, 1 repeated"),
        ((1, 1, 1, 2), "0 missing, 2 repeated"),
        ((1, "", 2, 3), "1 missing, 0 repeated"),
        (("", 1, "", 1), "2 missing, 1 repeated"),
    ],
)
def test_identifiers_must_be_present_and_unique(small, output, tmp_path, ids, said, chunk_rows):
    source = people(tmp_path / "a.csv", *ids)
    whole = refused(source, output, small, chunk_rows=chunk_rows)
    assert whole == f"{source}: identifiers must be present and unique: {said}"


def test_identifiers_must_be_unique_among_the_files_of_a_folder(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1, 2)
    people(source / "b.csv", 3, 1)
    assert refused(source, output, small).endswith("0 missing, 1 repeated")


@pytest.mark.parametrize("bad", ["seven", "1.5", "99999999999999999999"])
def test_a_number_that_names_an_applicant_is_whole(small, output, tmp_path, bad):
    assert refused(people(tmp_path / "a.csv", 1, bad), output, small) == "SK_ID_CURR: must be a whole number"


def with_ids(identifier: str, ids: pa.Array) -> Callable[[Path], Path]:
    return lambda folder: parquet_of(folder / "a.parquet", ids, identifier)


def with_both(folder: Path) -> Path:
    source = folder / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    people(source / "b.csv", "x", identifier="client_id")
    return source


@pytest.mark.parametrize(
    "make",
    [
        with_ids("SK_ID_CURR", pa.array([[1], [2]])),
        with_ids("SK_ID_CURR", pa.array([1, 2], pa.date32())),
        with_ids("client_id", pa.array([[1], [2]])),
        with_both,
    ],
    ids=["lists", "dates", "lists as text", "number and text"],
)
def test_identifiers_of_other_kinds_are_refused(small, output, tmp_path, make):
    with pytest.raises((FeatureError, OutputError), match=r"SK_ID_CURR|client_id"):
        score_files(make(tmp_path), output, small)


def test_a_text_that_names_an_applicant_is_text(small, output, tmp_path):
    source = parquet_of(tmp_path / "a.parquet", pa.array([b"\xff", b"a"]), "client_id")
    assert refused(source, output, small) == "client_id: must be a text"
