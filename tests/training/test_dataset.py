from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import ColumnsError, FileError
from tests.home_credit import APPLICATION, PORTFOLIO
from training.dataset import load_dataset
from training.errors import DataError

Edit = Callable[[pd.DataFrame], None]


@pytest.fixture(scope="module")
def frame(generated: Path) -> pd.DataFrame:
    return pd.read_csv(generated / "application_train.csv", nrows=200)


def write(folder: Path, frame: pd.DataFrame, name: str = "application_train", suffix: str = ".csv") -> Path:
    folder.mkdir(exist_ok=True)
    if suffix == ".csv":
        frame.to_csv(folder / f"{name}.csv", index=False)
    else:
        frame.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_sound_file_is_loaded_whole(tmp_path: Path, frame: pd.DataFrame, suffix: str) -> None:
    dataset = load_dataset(write(tmp_path, frame, suffix=suffix), PORTFOLIO)
    assert dataset.ids.tolist() == frame["SK_ID_CURR"].tolist()
    assert dataset.target.tolist() == frame["TARGET"].tolist()
    assert (len(dataset), dataset.source, len(dataset.fingerprint)) == (200, f"application_train{suffix}", 64)


def test_csv_and_parquet_hold_the_same_columns(tmp_path: Path, frame: pd.DataFrame) -> None:
    csv, parquet = (
        load_dataset(write(tmp_path / s[1:], frame, suffix=s), PORTFOLIO).columns for s in (".csv", ".parquet")
    )
    np.testing.assert_array_equal(csv.numbers, parquet.numbers)
    assert csv.levels.tolist() == parquet.levels.tolist()


def test_the_fingerprint_is_of_the_bytes(tmp_path: Path, frame: pd.DataFrame) -> None:
    first = load_dataset(write(tmp_path / "a", frame), PORTFOLIO).fingerprint
    again = load_dataset(write(tmp_path / "b", frame), PORTFOLIO).fingerprint
    other = load_dataset(write(tmp_path / "c", frame.iloc[:-1]), PORTFOLIO).fingerprint
    assert (first == again, first == other) == (True, False)


def set_value(column: str, row: int, value: object) -> Edit:
    def edit(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value

    return edit


def set_all(column: str, value: object) -> Edit:
    def edit(frame: pd.DataFrame) -> None:
        frame[column] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_value("SK_ID_CURR", 3, 100002), "SK_ID_CURR: must be unique (1 row: 4)"),
        (set_value("SK_ID_CURR", 3, None), "SK_ID_CURR: must be a whole number and present (1 row: 4)"),
        (set_value("SK_ID_CURR", 3, "A-17"), "SK_ID_CURR: must be a whole number and present (1 row: 4)"),
        (set_value("TARGET", 3, 2), "TARGET: must be 0 or 1 (1 row: 4)"),
        (set_value("TARGET", 3, None), "TARGET: must be 0 or 1 (1 row: 4)"),
        (set_value("TARGET", 3, "yes"), "TARGET: must be 0 or 1 (1 row: 4)"),
        (set_all("TARGET", 0), "TARGET: must hold both classes"),
        (set_value("AMT_CREDIT", 7, -918273645), "AMT_CREDIT: must be between 1 and 1000000000 (1 row: 8)"),
        (set_value("AMT_CREDIT", 7, "inf"), "AMT_CREDIT: must be finite (1 row: 8)"),
        (set_value("AMT_CREDIT", 7, None), "AMT_CREDIT: is required (1 row: 8)"),
        (set_value("AMT_CREDIT", 7, "918273645x"), "AMT_CREDIT: must be a number (1 row: 8)"),
        (set_value("CNT_CHILDREN", 7, 0.5), "CNT_CHILDREN: must be a whole number (1 row: 8)"),
        (set_all("DAYS_BIRTH", 9000), "DAYS_BIRTH: must be between -43830 and -5844 (200 rows: 1, 2, 3, 4, 5, ...)"),
    ],
)
def test_every_violation_is_named_without_its_value(
    tmp_path: Path, frame: pd.DataFrame, edit: Edit, message: str
) -> None:
    wrong = frame.copy()
    wrong.loc[0, "SK_ID_CURR"] = 100002
    wrong.loc[1:, "SK_ID_CURR"] = range(200_000, 200_000 + len(wrong) - 1)
    edit(wrong)
    with pytest.raises(DataError) as refusal:
        load_dataset(write(tmp_path, wrong), PORTFOLIO)
    assert str(refusal.value) == f"application_train.csv breaks 1 rule: {message}"


def test_all_violations_are_reported_together(tmp_path: Path, frame: pd.DataFrame) -> None:
    wrong = frame.copy()
    wrong.loc[[1, 5], "AMT_CREDIT"] = -1
    wrong["TARGET"] = 1
    with pytest.raises(DataError, match=r"breaks 2 rules: TARGET: .*; AMT_CREDIT: .* \(2 rows: 2, 6\)"):
        load_dataset(write(tmp_path, wrong), PORTFOLIO)


def test_an_applicant_may_not_be_in_both_files(tmp_path: Path, frame: pd.DataFrame) -> None:
    write(tmp_path, frame)
    write(tmp_path, frame.drop(columns="TARGET").iloc[[9, 4]], "application_test")
    with pytest.raises(DataError, match=r"must not be in application_test too \(2 rows: 5, 10\)"):
        load_dataset(tmp_path, PORTFOLIO)


def test_a_missing_column_is_named(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(ColumnsError, match="column missing: EXT_SOURCE_2"):
        load_dataset(write(tmp_path, frame.drop(columns="EXT_SOURCE_2")), PORTFOLIO)
    with pytest.raises(ColumnsError, match="column missing: TARGET"):
        load_dataset(write(tmp_path, frame.drop(columns="TARGET")), PORTFOLIO)


def test_a_file_without_rows_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_dataset(write(tmp_path, frame.iloc[:0]), PORTFOLIO)


def test_no_file_and_two_files_are_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"neither application_train\.csv nor \.parquet"):
        load_dataset(tmp_path, PORTFOLIO)
    write(tmp_path, frame)
    write(tmp_path, frame, suffix=".parquet")
    with pytest.raises(DataError, match=r"both application_train\.csv and \.parquet"):
        load_dataset(tmp_path, PORTFOLIO)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_damaged_files_are_refused(tmp_path: Path, frame: pd.DataFrame, suffix: str) -> None:
    path = write(tmp_path, frame, suffix=suffix) / f"application_train{suffix}"
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2 - 7]):
        path.write_bytes(damaged)
        with pytest.raises((FileError, ColumnsError)):
            load_dataset(tmp_path, PORTFOLIO)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path, frame: pd.DataFrame, suffix: str) -> None:
    write(tmp_path, frame, suffix=suffix)
    write(tmp_path, frame.iloc[[9]], "application_test", suffix)
    for name in ("application_train", "application_test"):
        (tmp_path / f"{name}{suffix}").rename(tmp_path / f"{name}{suffix.upper()}")
    with pytest.raises(DataError, match=r"must not be in application_test too \(1 row: 10\)"):
        load_dataset(tmp_path, PORTFOLIO)


def test_what_is_no_folder_with_a_table_is_told_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "application_train.csv.gz").write_text("x")
    for name, said in (
        ("none", "no such file or folder"),
        ("data", "neither application_train.csv nor .parquet; it holds application_train.csv.gz"),
    ):
        with pytest.raises(DataError) as refusal:
            load_dataset(tmp_path / name, PORTFOLIO)
        assert str(refusal.value) == f"{tmp_path / name}: {said}"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("ids", ["float", "text", "float text", "exponent", "decimal"])
def test_identifiers_are_read_however_they_are_written(
    tmp_path: Path, frame: pd.DataFrame, suffix: str, ids: str
) -> None:
    whole = frame["SK_ID_CURR"]
    forms = {
        "float": whole.astype(float),
        "text": whole.astype(str),
        "float text": whole.astype(str) + ".0",
        "exponent": whole.map("{:.12e}".format),
        "decimal": whole.map(Decimal),
    }
    dataset = load_dataset(write(tmp_path, frame.assign(SK_ID_CURR=forms[ids]), suffix=suffix), PORTFOLIO)
    assert dataset.ids.tolist() == whole.tolist()


def test_identifiers_beyond_what_a_float_holds_are_told_apart(tmp_path: Path, frame: pd.DataFrame) -> None:
    large = range(2**53, 2**53 + len(frame))
    assert load_dataset(write(tmp_path, frame.assign(SK_ID_CURR=large)), PORTFOLIO).ids.tolist() == list(large)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", [bool, float, str])
def test_outcomes_and_flags_may_be_true_and_false(tmp_path: Path, frame: pd.DataFrame, suffix: str, kind: type) -> None:
    truth = frame["TARGET"].astype(bool)
    labelled = frame.assign(TARGET=truth.astype(kind), FLAG_EMAIL=frame["FLAG_EMAIL"].astype(bool))
    dataset = load_dataset(write(tmp_path, labelled, suffix=suffix), PORTFOLIO)
    assert dataset.target.tolist() == frame["TARGET"].tolist()
    assert dataset.columns.numbers[:, APPLICATION.position["FLAG_EMAIL"]].tolist() == frame["FLAG_EMAIL"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_categories_that_are_encoded_in_another_way_are_refused(
    tmp_path: Path, frame: pd.DataFrame, suffix: str
) -> None:
    encoded = frame["NAME_CONTRACT_TYPE"].astype("category").cat.codes.astype(str)
    with pytest.raises(DataError) as refusal:
        load_dataset(write(tmp_path, frame.assign(NAME_CONTRACT_TYPE=encoded), suffix=suffix), PORTFOLIO)
    rule = "NAME_CONTRACT_TYPE: must hold declared levels; none of them occurs (200 rows: 1, 2, 3, 4, 5, ...)"
    assert str(refusal.value) == f"application_train{suffix} breaks 1 rule: {rule}"


@pytest.mark.parametrize(("rows", "refused"), [(101, True), (100, False)])
def test_more_than_half_of_the_stated_levels_are_declared(
    tmp_path: Path, frame: pd.DataFrame, rows: int, refused: bool
) -> None:
    mixed = frame.assign(NAME_CONTRACT_TYPE=["cash"] * rows + ["Cash loans"] * (200 - rows))
    if refused:
        with pytest.raises(DataError, match=f"must hold declared levels in most rows \\({rows} rows: 1, "):
            load_dataset(write(tmp_path, mixed), PORTFOLIO)
    else:
        warnings = load_dataset(write(tmp_path, mixed), PORTFOLIO).warnings
        assert "rows with a level that is not declared: NAME_CONTRACT_TYPE (100)" in warnings


def test_missing_levels_are_not_undeclared(tmp_path: Path, frame: pd.DataFrame) -> None:
    sparse = frame.assign(CODE_GENDER=["XNA"] * 198 + ["F", "Z"])
    assert (
        "rows with a level that is not declared: CODE_GENDER (1)"
        in load_dataset(write(tmp_path, sparse), PORTFOLIO).warnings
    )


def test_constant_and_undeclared_columns_are_warnings(tmp_path: Path, frame: pd.DataFrame) -> None:
    odd = frame.copy().assign(FLAG_EMAIL=0, NAME_TYPE_SUITE=None, BONUS=1)
    constant, ignored = load_dataset(write(tmp_path, odd), PORTFOLIO).warnings
    assert {"FLAG_EMAIL", "NAME_TYPE_SUITE"} <= set(constant.removeprefix("constant columns: ").split(", "))
    assert ignored == "columns that are not declared and were ignored: BONUS"
