"""How the results of a batch job name the applicants."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from features.errors import ColumnsError, FeatureError
from tests.features.examples import NAMES, write_csv
from tests.scoring.jobs import parquet_of, parts, people, refused, rows, score_files

HEADER = ("SK_ID_CURR", *NAMES)


@pytest.mark.parametrize(
    ("identifier", "kind", "ids", "expected"),
    [
        ("SK_ID_CURR", pa.int64(), [9, 1, 5], [9, 1, 5]),
        ("SK_ID_CURR", pa.int32(), [9, 1, 5], [9, 1, 5]),
        ("SK_ID_CURR", pa.float64(), [9.0, 1.0, 5.0], [9, 1, 5]),
        ("SK_ID_CURR", pa.string(), ["9", "1", "5"], [9, 1, 5]),
        ("SK_ID_CURR", pa.uint64(), [9, 1, 2**63 - 1], [9, 1, 2**63 - 1]),
        ("SK_ID_CURR", pa.float64(), [9.0, 1.0, 2.0**53], [9, 1, 2**53]),
        ("SK_ID_CURR", pa.float32(), [9.0, 1.0, 2.0**24], [9, 1, 2**24]),
        ("SK_ID_CURR", pa.decimal128(20, 0), [9, 1, 2**53 + 1], [9, 1, 2**53 + 1]),
        ("SK_ID_CURR", pa.decimal256(40, 2), [9, 1, 2**63 - 1], [9, 1, 2**63 - 1]),
        ("SK_ID_CURR", pa.string(), ["9.0", "1.00002E+05", " 5 "], [9, 100_002, 5]),
        ("SK_ID_CURR", pa.large_string(), ["9", "+1", "9007199254740993.0"], [9, 1, 2**53 + 1]),
        ("SK_ID_CURR", pa.dictionary(pa.int8(), pa.int64()), [9, 1, 5], [9, 1, 5]),
        ("client_id", pa.string(), ["b", "007", "7"], ["b", "007", "7"]),
        ("client_id", pa.string_view(), ["b", "x" * 64, "1.0"], ["b", "x" * 64, "1.0"]),
        ("client_id", pa.float64(), [9.0, 1.0, 5.0], ["9", "1", "5"]),
        ("client_id", pa.decimal128(20, 2), [9, 100, 5], ["9", "100", "5"]),
        ("client_id", pa.uint64(), [9, 1, 2**64 - 1], ["9", "1", str(2**64 - 1)]),
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
    said = refused(source, output, small, ColumnsError)
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


WHOLE = "must be a whole number"
TEXT = "must be a text of 1 to 64 characters, or a whole number"


@pytest.mark.parametrize("chunk_rows", [1, 10])
@pytest.mark.parametrize(
    ("identifier", "bad", "rule"),
    [
        *(
            ("SK_ID_CURR", bad, WHOLE)
            for bad in (
                "seven",
                "1.5",
                "1e400",
                "1e-9",
                "9223372036854775808",
                "1_000",
                "0x1F",
                "1e99999999999999999999",
            )
        ),
        ("client_id", "x" * 65, TEXT),
    ],
)
def test_a_name_that_breaks_its_rule_is_refused_with_its_row(
    small, output, tmp_path, identifier, bad, rule, chunk_rows
):
    source = people(tmp_path / "a.csv", 1, 2, bad, 4, identifier=identifier)
    said = refused(source, output, small, chunk_rows=chunk_rows)
    assert said == f"{source}: {identifier}: {rule} (1 row: 3)"


@pytest.mark.parametrize(
    ("identifier", "ids", "rule"),
    [
        ("SK_ID_CURR", pa.array([1.0, 1.5]), WHOLE),
        ("SK_ID_CURR", pa.array([1.0, 2.0**53 + 2]), WHOLE),
        ("SK_ID_CURR", pa.array([1.0, 2.0**24 + 2], pa.float32()), WHOLE),
        ("SK_ID_CURR", pa.array([1.0, float("inf")]), WHOLE),
        ("SK_ID_CURR", pa.array([1, 2**63], pa.uint64()), WHOLE),
        ("SK_ID_CURR", pa.array([Decimal(1), Decimal("1.5")], pa.decimal128(9, 1)), WHOLE),
        ("SK_ID_CURR", pa.array([None, True]), WHOLE),
        ("client_id", pa.array(["1", "x" * 5000]), TEXT),
        ("client_id", pa.array([1.0, 1.5]), TEXT),
        ("client_id", pa.array([None, True]), TEXT),
        ("client_id", pa.array([None, 1], pa.date32()), TEXT),
        ("client_id", pa.array([b"a", b"\xff"]).view(pa.string()), TEXT),
    ],
    ids=str,
)
def test_a_stored_name_that_breaks_its_rule_is_refused_with_its_row(small, output, tmp_path, identifier, ids, rule):
    source = parquet_of(tmp_path / "a.parquet", ids, identifier)
    assert refused(source, output, small) == f"{source}: {identifier}: {rule} (1 row: 2)"


@pytest.mark.parametrize("identifier", ["SK_ID_CURR", "client_id"])
@pytest.mark.parametrize("blank", ["", "  ", "NA", "null", "<NA>"])
def test_a_name_that_is_blank_or_a_word_for_missing_is_missing(small, output, tmp_path, identifier, blank):
    for source in (
        people(tmp_path / "a.csv", 1, blank, identifier=identifier),
        parquet_of(tmp_path / "a.parquet", pa.array(["1", blank]), identifier),
    ):
        said = refused(source, tmp_path / source.suffix, small)
        assert said == f"{source}: identifiers must be present and unique: 1 missing, 0 repeated"


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
    with pytest.raises(FeatureError, match=r"SK_ID_CURR|client_id"):
        score_files(make(tmp_path), output, small)


def test_a_text_that_names_an_applicant_is_text(small, output, tmp_path):
    source = parquet_of(tmp_path / "a.parquet", pa.array([b"\xff", b"a"]), "client_id")
    assert refused(source, output, small) == f"{source}: client_id: {TEXT} (2 rows: 1, 2)"
