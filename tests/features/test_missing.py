"""Rule 4: what is absent, missing, unknown or out of bounds is never guessed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from features.errors import ColumnsError
from features.files import open_file
from features.schema import Column, ColumnKind
from features.transformer import FeatureTransformer
from features.validation import find_violations
from tests.features.examples import NAMES, REQUIRED, columns, matrix, state, write_csv
from tests.home_credit import APPLICATION, PORTFOLIO, STATED_NUMBERS, Application, columns_of

OPTIONAL = [name for name in NAMES if name not in REQUIRED]
NUMERIC = [column.name for column in STATED_NUMBERS]


@pytest.mark.parametrize("name", NAMES)
def test_rule_4_a_file_without_a_declared_column_is_an_error(tmp_path, name):
    path = write_csv(tmp_path / "a.csv", {}, header=[other for other in NAMES if other != name])
    with pytest.raises(ColumnsError, match=f"a.csv: column missing: {name}$"):
        open_file(path, PORTFOLIO)


@pytest.mark.parametrize("name", REQUIRED)
def test_rule_4_a_request_without_a_required_column_is_an_error(name):
    rest = {other: value for other, value in REQUIRED.items() if other != name}
    for request in (rest, {**rest, name: None}):
        with pytest.raises(ValidationError) as caught:
            Application.model_validate(request)
        assert {error["loc"][0] for error in caught.value.errors()} == {name}


@pytest.mark.parametrize("name", REQUIRED)
def test_rule_4_a_row_without_a_required_value_is_a_violation(name):
    [violation] = find_violations(columns({}, {name: None}, {}))
    assert str(violation) == f"{name}: is required (1 row: 2)"


def test_rule_4_every_other_column_may_be_absent_from_a_request_and_is_then_missing():
    raw = columns_of([Application(**REQUIRED), Application(**REQUIRED, **dict.fromkeys(OPTIONAL))])
    for name in OPTIONAL:
        column = (raw.numbers if name in NUMERIC else raw.levels)[:, APPLICATION.position[name]]
        assert [value is None or math.isnan(value) for value in column] == [True, True]
    assert find_violations(raw) == []


def test_rule_4_a_missing_value_is_nan_to_the_model_and_never_zero():
    [row] = matrix(columns({}), *NAMES, vocabularies={"NAME_CONTRACT_TYPE": ("Cash loans",)})
    assert {name: value for name, value in zip(NAMES, row, strict=True) if not np.isnan(value)} == {
        "NAME_CONTRACT_TYPE": 0.0,
        "AMT_INCOME_TOTAL": 160_000.0,
        "AMT_CREDIT": 400_000.0,
    }


@pytest.mark.parametrize("name", [name for name in NUMERIC if name not in REQUIRED])
def test_rule_4_a_stated_zero_is_zero_unless_it_is_the_code_for_missing(name):
    expected = math.nan if name == "DAYS_LAST_PHONE_CHANGE" else 0.0
    np.testing.assert_array_equal(matrix(columns({name: 0.0}), name), [[expected]])


@pytest.mark.parametrize(
    ("name", "code", "legal"),
    [
        ("DAYS_EMPLOYED", 365243.0, -1.0),
        ("REGION_RATING_CLIENT", -1.0, 1.0),
        ("REGION_RATING_CLIENT_W_CITY", -1.0, 1.0),
        ("DAYS_LAST_PHONE_CHANGE", 0.0, -1.0),
    ],
)
def test_rule_4_the_code_for_missing_is_nan_and_no_violation(name, code, legal):
    raw = columns({name: code}, {name: legal})
    assert find_violations(raw) == []
    np.testing.assert_array_equal(matrix(raw, name), [[math.nan], [legal]])
    np.testing.assert_array_equal(matrix(raw, name, clip={name: (legal, legal)}), [[math.nan], [legal]])


def test_rule_4_the_code_of_one_column_is_a_value_of_another():
    np.testing.assert_array_equal(matrix(columns({"AMT_ANNUITY": 365243.0}), "AMT_ANNUITY"), [[365243.0]])


@pytest.mark.parametrize(
    ("name", "level", "code"),
    [
        ("NAME_FAMILY_STATUS", "Married", 0.0),
        ("NAME_FAMILY_STATUS", "Widow", 1.0),
        ("NAME_FAMILY_STATUS", "Separated", 2.0),
        ("NAME_FAMILY_STATUS", "never declared", 2.0),
        ("NAME_FAMILY_STATUS", "married", 2.0),
        ("NAME_FAMILY_STATUS", None, math.nan),
        ("NAME_FAMILY_STATUS", "XNA", math.nan),
        ("NAME_FAMILY_STATUS", "Unknown", math.nan),
        ("CODE_GENDER", "Unknown", 2.0),
        ("CODE_GENDER", "XNA", math.nan),
    ],
)
def test_rule_4_an_unknown_category_is_its_own_code_and_a_missing_one_is_nan(name, level, code):
    vocabularies = {"NAME_FAMILY_STATUS": ("Married", "Widow"), "CODE_GENDER": ("F", "M")}
    np.testing.assert_array_equal(matrix(columns({name: level}), name, vocabularies=vocabularies), [[code]])


@pytest.mark.parametrize(
    "word", ["", "  ", "\u00a0", "NA", "n/a", "Null", "none", "NaN", "-nan", "<NA>", "#N/A", r"\N"]
)
def test_rule_4_a_word_for_missing_is_missing_to_the_model_in_a_request_too(word):
    vocabularies = {"NAME_HOUSING_TYPE": ("With parents",)}
    raw = columns_of([Application(**REQUIRED, NAME_HOUSING_TYPE=word)])
    assert find_violations(raw) == []
    np.testing.assert_array_equal(matrix(raw, "NAME_HOUSING_TYPE", vocabularies=vocabularies), [[math.nan]])


@pytest.mark.parametrize("word", ["", " ", "XNA", " XNA", "nan", "N/A", "None"])
def test_rule_4_a_required_category_that_is_missing_by_a_word_is_refused(word):
    with pytest.raises(ValidationError) as caught:
        Application(**REQUIRED | {"NAME_CONTRACT_TYPE": word})
    [error] = caught.value.errors()
    assert (error["type"], error["loc"]) == ("missing", ("NAME_CONTRACT_TYPE",))
    [violation] = find_violations(columns({}, {"NAME_CONTRACT_TYPE": word}))
    assert str(violation) == "NAME_CONTRACT_TYPE: is required (1 row: 2)"


def test_rule_4_a_declared_level_is_a_level_even_where_it_is_a_word_for_missing_elsewhere():
    pledge = Column(
        name="P", kind=ColumnKind.CATEGORY, unit="", description="", levels=("None", "Flat"), missing=("XNA",)
    )
    said = {text: pledge.is_missing(text) for text in ("None", " None ", "none", "NA", "XNA", "", "Flat", "0", "no")}
    assert {text for text, missing in said.items() if missing} == {"none", "NA", "XNA", ""}


def test_rule_4_an_unknown_category_has_the_largest_code():
    raw = columns(
        {"CODE_GENDER": "F", "NAME_INCOME_TYPE": "Student"},
        {"CODE_GENDER": "X", "NAME_INCOME_TYPE": None},
        {"CODE_GENDER": "Y", "NAME_INCOME_TYPE": "XNA"},
    )
    names = ("AMT_CREDIT", "NAME_INCOME_TYPE", "CODE_GENDER")
    transformer = FeatureTransformer(state(*names, vocabularies={"CODE_GENDER": ("F",)}))
    assert (transformer.categorical, transformer.largest_codes) == ((1, 2), (0.0, 1.0))
    np.testing.assert_array_equal(transformer.transform(raw)[:, 1:], [[0.0, 0.0], [math.nan, 1.0], [math.nan, 1.0]])


def test_rule_4_what_is_no_code_is_found_in_a_matrix_from_elsewhere():
    names = ("NAME_INCOME_TYPE", "AMT_CREDIT", "CODE_GENDER")
    transformer = FeatureTransformer(
        state(*names, vocabularies={"CODE_GENDER": ("F", "M"), "NAME_INCOME_TYPE": ("Student",)})
    )
    sound = np.array([[0.0, -0.5, 2.0], [math.nan, math.nan, math.nan], [1.0, 7.5, 0.0]])
    assert transformer.unknown_codes(sound) == {}
    for wrong in (-1.0, 0.5, 3.0, math.inf, -math.inf):
        assert transformer.unknown_codes(np.vstack([sound, [0.0, 1.0, wrong]])) == {2: 2}
    assert transformer.unknown_codes(np.array([[2.0, 0.0, -1.0]])) == {0: 1, 2: 2}


def test_rule_4_a_violation_names_its_rows_and_not_those_that_are_sound():
    raw = columns(
        {"CNT_CHILDREN": 31.0},
        {"CNT_CHILDREN": 0.5, "AMT_CREDIT": -1.0},
        {},
        {"CNT_CHILDREN": math.inf, "FLAG_OWN_CAR": ""},
        {"CNT_CHILDREN": 30.5, "FLAG_OWN_CAR": "x" * 101},
    )
    assert [str(violation) for violation in find_violations(raw)] == [
        "CNT_CHILDREN: must be finite (1 row: 4)",
        "CNT_CHILDREN: must be a whole number (2 rows: 2, 5)",
        "CNT_CHILDREN: must be between 0 and 30 (2 rows: 1, 5)",
        "AMT_CREDIT: must be between 1 and 1000000000 (1 row: 2)",
        "FLAG_OWN_CAR: must have at most 100 characters (1 row: 5)",
    ]
