"""What only Parquet files can do: types, chunks, dictionaries, damage."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import ColumnsError, FeatureError, FileError
from features.files import open_file, open_table, read_table
from features.values import as_numbers
from tests.features.examples import NAMES, generate, table, write_parquet
from tests.home_credit import APPLICATION, PORTFOLIO

NAN = np.nan


def numbers(kind: pa.DataType, values: list, name: str = "AMT_ANNUITY") -> tuple[list, list[str]]:
    """A numeric column as it is read, and the violations of the table."""
    batch = read_table(table(len(values), **{name: pa.array(values, kind)}), PORTFOLIO)
    return batch.columns.numbers[:, APPLICATION.position[name]].tolist(), [str(v) for v in batch.violations]


def levels(values: pa.Array | pa.ChunkedArray, name: str = "ORGANIZATION_TYPE") -> tuple[list, list[str]]:
    """A categorical column as it is read, and the violations of the table."""
    batch = read_table(table(len(values), **{name: values}), PORTFOLIO)
    return batch.columns.levels[:, APPLICATION.position[name]].tolist(), [str(v) for v in batch.violations]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.float64(), [0.1, None, NAN, 3e5], [0.1, NAN, NAN, 3e5]),
        (pa.float32(), [0.5, None], [0.5, NAN]),
        (pa.float16(), [np.float16(0.5), None], [0.5, NAN]),
        (pa.int8(), [7, None], [7.0, NAN]),
        (pa.uint32(), [7, None], [7.0, NAN]),
        (pa.int64(), [10**5, None], [1e5, NAN]),
        (pa.decimal128(12, 2), [Decimal("1234.56"), None], [1234.56, NAN]),
        (pa.decimal256(40, 2), [Decimal("1234.56"), None], [1234.56, NAN]),
        (pa.string(), ["0.1", None], [0.1, NAN]),
        (pa.null(), [None, None], [NAN, NAN]),
    ],
    ids=str,
)
def test_a_number_of_any_width_is_a_number(kind, values, expected):
    read, violations = numbers(kind, values)
    np.testing.assert_array_equal(read, expected)
    assert violations == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), [None, "seven", "eight"]),
        (pa.large_string(), [None, "seven", "eight"]),
        (pa.string_view(), [None, "seven", "eight"]),
        (pa.date32(), [None, date(2025, 1, 1), date(2025, 1, 2)]),
        (pa.list_(pa.float64()), [None, [1.0], []]),
        (pa.binary(), [None, b"7", b"8"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["AMT_ANNUITY", "FLAG_MOBIL", "AMT_CREDIT"])
def test_what_is_no_number_is_a_violation_where_it_is_present(kind, values, name):
    read, violations = numbers(kind, values, name)
    np.testing.assert_array_equal(read, [NAN, NAN, NAN])
    missing = ["AMT_CREDIT: is required (1 row: 1)"] if name == "AMT_CREDIT" else []
    stored = "" if "string" in str(kind) else f", but is stored as {kind}"
    assert violations == [f"{name}: must be a number{stored} (2 rows: 2, 3)", *missing]


def test_a_whole_number_that_float64_cannot_hold_is_rounded_and_then_held_against_the_bounds():
    assert numbers(pa.int64(), [2**62 + 1])[1] == [
        "AMT_ANNUITY: must be between 0 and 1000000000 (1 row: 1)",
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_a_text_of_any_encoding_is_a_category(kind):
    values = pa.array(["Bank", None, "Bank", "Hotel"]).cast(kind)
    assert levels(values) == (["Bank", None, "Bank", "Hotel"], [])


def test_a_column_of_nulls_is_a_missing_category():
    assert levels(pa.nulls(2)) == ([None, None], [])


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (pa.array([None, 1, 2]), "int64"),
        (pa.array([None, True, False]), "bool"),
        (pa.array([NAN, 1, 2]), "double"),
        (pa.array([None, 1, 2]).dictionary_encode(), "int64"),
        (pa.array([None, b"Bank", b"Bank"]), "binary"),
    ],
    ids=["integer", "bool", "float", "dictionary of integers", "binary"],
)
def test_what_is_no_text_is_a_violation_where_it_is_present(values, stored):
    said = f"ORGANIZATION_TYPE: must be a text, but is stored as {stored} (2 rows: 2, 3)"
    assert levels(values) == ([None, None, None], [said])


def test_text_that_is_not_utf_8_is_a_violation_of_its_row():
    values = pa.array([b"Bank", b"B\xff", None, b"Hotel"]).cast(pa.binary()).view(pa.string())
    assert levels(values) == (["Bank", None, None, "Hotel"], ["ORGANIZATION_TYPE: must be a text (1 row: 2)"])
    batch = read_table(table(4, AMT_ANNUITY=pa.array([b"1", b"2\xff", None, b"3"]).view(pa.string())), PORTFOLIO)
    np.testing.assert_array_equal(batch.columns.numbers[:, APPLICATION.position["AMT_ANNUITY"]], [1, NAN, NAN, 3])
    assert [str(v) for v in batch.violations] == ["AMT_ANNUITY: must be a number (1 row: 2)"]


def test_a_required_category_that_is_no_text_is_not_missing_as_well():
    _, violations = levels(pa.array([None, 1]), "NAME_CONTRACT_TYPE")
    assert violations == [
        "NAME_CONTRACT_TYPE: must be a text, but is stored as int64 (1 row: 2)",
        "NAME_CONTRACT_TYPE: is required (1 row: 1)",
    ]


def test_nulls_may_be_spread_over_chunks_with_other_dictionaries():
    chunks = [["Bank", None], [None, None], [], ["Hotel", "Bank"], [None]]
    encoded = [pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks]
    amounts = pa.chunked_array([[1.0, None], [None, None], [], [2.0, 3.0], [None]], type=pa.float64())
    given = {"ORGANIZATION_TYPE": pa.chunked_array(encoded), "AMT_ANNUITY": amounts}
    batch = read_table(table(7, **given), PORTFOLIO, first_row=5)
    assert (batch.first_row, len(batch), batch.violations) == (5, 7, [])
    read = batch.columns.levels[:, APPLICATION.position["ORGANIZATION_TYPE"]]
    assert read.tolist() == ["Bank", None, None, None, "Hotel", "Bank", None]
    annuities = batch.columns.numbers[:, APPLICATION.position["AMT_ANNUITY"]]
    np.testing.assert_array_equal(annuities, [1, NAN, NAN, NAN, 2, 3, NAN])


def test_row_groups_do_not_matter(tmp_path):
    amounts = pa.array([None if i % 3 else float(i) for i in range(50)], pa.float64())
    whole, split = tmp_path / "whole.parquet", tmp_path / "split.parquet"
    write_parquet(whole, 50, AMT_ANNUITY=amounts)
    parquet.write_table(table(50, AMT_ANNUITY=amounts), split, row_group_size=7)
    read = [[list(b.columns.numbers[:, 7]) for b in open_file(path, PORTFOLIO).batches(20)] for path in (whole, split)]
    assert list(map(len, read[1])) == [20, 20, 10]
    np.testing.assert_array_equal(np.concatenate(read[0]), np.concatenate(read[1]))


def test_numbers_and_where_there_is_none():
    values, wrong = as_numbers(pa.chunked_array([["1", None], ["x"]]))
    np.testing.assert_array_equal(values, [1, NAN, NAN])
    assert wrong.tolist() == [False, False, True]


def test_a_repeated_column_is_named(tmp_path):
    both = table(1)
    parquet.write_table(both.append_column("AMT_CREDIT", pa.array([1.0])), tmp_path / "a.parquet")
    with pytest.raises(ColumnsError, match=r"a.parquet: column repeated: AMT_CREDIT$"):
        open_file(tmp_path / "a.parquet", PORTFOLIO)


def test_a_missing_column_is_named(tmp_path):
    parquet.write_table(table(1).drop_columns(["AMT_CREDIT", "CODE_GENDER"]), tmp_path / "a.parquet")
    with pytest.raises(ColumnsError, match=r"a.parquet: column missing: CODE_GENDER, AMT_CREDIT$"):
        open_file(tmp_path / "a.parquet", PORTFOLIO)


def test_a_file_without_rows_has_no_batch(tmp_path):
    file = open_file(write_parquet(tmp_path / "a.parquet", 0), PORTFOLIO)
    assert file.header == NAMES
    assert list(file.batches(10)) == []
    assert len(file.column("AMT_CREDIT")) == 0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return generate(tmp_path_factory.mktemp("sound") / "data", clients=100, file_format="parquet").read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.75, 0.99, 0.999, 0.99999])
def test_a_truncated_file_is_refused(tmp_path, sound, share):
    path = tmp_path / "a.parquet"
    path.write_bytes(sound[: int(len(sound) * share)])
    with pytest.raises(FileError, match=r"a.parquet: is damaged or not in the format of its suffix$"):
        open_file(path, PORTFOLIO)


def test_a_file_with_its_middle_cut_out_is_refused_when_it_is_read(tmp_path, sound):
    path = tmp_path / "a.parquet"
    path.write_bytes(sound[:4] + bytes(len(sound) // 2) + sound[4 + len(sound) // 2 :])
    file = open_file(path, PORTFOLIO)
    with pytest.raises(FileError, match=r"a.parquet: (cannot be read|is damaged)"):
        list(file.batches(1000))


def test_a_file_with_a_flipped_bit_is_read_or_refused_and_nothing_else(tmp_path, sound):
    path, random = tmp_path / "a.parquet", np.random.default_rng(1)
    for position in random.integers(len(sound) - 30_000, len(sound), 250):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            list(open_file(path, PORTFOLIO).batches(1000))
        except FeatureError as error:
            assert "\n" not in str(error)  # noqa: PT017 - whether it is refused is open


def test_a_large_row_group_is_not_held_whole(tmp_path):
    rows = 2_000_000
    numbers = np.random.default_rng(0).random(rows)
    names = [f"c{i}" for i in range(4)]
    path = tmp_path / "a.parquet"
    whole = pa.table(dict.fromkeys(names, numbers))
    parquet.write_table(whole, path, row_group_size=rows, use_dictionary=False, compression="none")
    size, before, most = whole.nbytes, pa.total_allocated_bytes(), 0
    for block in open_table(path, known=names).blocks(names, 10_000):
        most = max(most, pa.total_allocated_bytes() - before)
        assert block.num_rows == 10_000
    assert most < size / 3
