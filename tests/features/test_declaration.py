"""Rule 1: raw columns are declared once, and requests, files and features derive from that declaration."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from features.files import open_file
from features.schema import MISSING_WORDS, Column, ColumnKind
from features.validation import find_violations
from tests.features.examples import NAMES, REQUIRED, columns
from tests.home_credit import APPLICATION, CATALOGUE, PORTFOLIO, STATED_NUMBERS, Application, columns_of
from tests.skipped import HOME_CREDIT, needs_home_credit

by_column = pytest.mark.parametrize("column", list(APPLICATION.stated), ids=lambda column: column.name)
by_number = pytest.mark.parametrize("column", STATED_NUMBERS, ids=lambda column: column.name)


def in_a_request(name: str, value: Any) -> bool:
    """Whether the pydantic model accepts the value."""
    try:
        Application.model_validate({**REQUIRED, name: value})
    except ValidationError:
        return False
    return True


def in_json(name: str, value: Any) -> bool:
    """Whether the pydantic model accepts the value as JSON."""
    try:
        Application.model_validate_json(json.dumps({**REQUIRED, name: value}))
    except ValidationError:
        return False
    return True


def in_a_file(name: str, value: Any) -> bool:
    """Whether the validation of files accepts the value."""
    violations = find_violations(columns({name: value}))
    assert {violation.column for violation in violations} <= {name}
    return not violations


def numbers(column: Column) -> st.SearchStrategy[float]:
    """Any number, above all those where a verdict may change."""
    edges = [float(edge) for edge in (column.low, column.high, 0.0, *column.missing)]
    beside = [math.nextafter(edge, towards) for edge in edges for towards in (-math.inf, math.inf)]
    return (
        st.sampled_from([*edges, *beside, -0.0, 0.5, math.inf, -math.inf])
        | st.integers(-50_000, 400_000).map(float)
        | st.builds(lambda whole, off: whole + off, st.integers(-9, 9), st.floats(-1e-7, 1e-7))
        | st.floats(column.low, column.high)
        | st.floats(allow_nan=False)
    )


WORDS = st.sampled_from([*MISSING_WORDS, "XNA", " N/A ", "Null", "Unknown", "\u00a0"])
LONG = st.text("x", min_size=98, max_size=102) | st.text("é😀", min_size=98, max_size=102)
LEVELS = st.text(max_size=3) | WORDS | LONG


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.sampled_from(STATED_NUMBERS).flatmap(lambda column: st.tuples(st.just(column.name), numbers(column))))
def test_rule_1_a_number_has_the_same_verdict_in_a_request_as_in_a_file(cell):
    name, value = cell
    assert in_a_request(name, value) == in_a_file(name, value)
    if math.isfinite(value):
        assert in_json(name, value) == in_a_file(name, value)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.sampled_from(APPLICATION.categorical), LEVELS)
def test_rule_1_a_text_has_the_same_verdict_in_a_request_as_in_a_file(column, value):
    assert in_a_request(column.name, value) == in_a_file(column.name, value) == in_json(column.name, value)


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("CNT_CHILDREN", 0, True),
        ("CNT_CHILDREN", 30, True),
        ("CNT_CHILDREN", 31, False),
        ("CNT_CHILDREN", -1, False),
        ("CNT_CHILDREN", 0.5, False),
        ("FLAG_MOBIL", 1, True),
        ("FLAG_MOBIL", 2, False),
        ("FLAG_MOBIL", 0.5, False),
        ("EXT_SOURCE_1", 0.5, True),
        ("AMT_ANNUITY", 0.5, True),
        ("AMT_ANNUITY", 400_001, False),
        ("AMT_CREDIT", 0, False),
        ("AMT_INCOME_TOTAL", 0, False),
        ("AMT_CREDIT", 1e9, True),
        ("AMT_CREDIT", math.inf, False),
        ("AMT_CREDIT", -math.inf, False),
        ("DAYS_BIRTH", -5843, False),
        ("DAYS_BIRTH", -5844, True),
        ("DAYS_EMPLOYED", 365243, True),
        ("DAYS_EMPLOYED", 365242, False),
        ("REGION_RATING_CLIENT", -1, True),
        ("REGION_RATING_CLIENT", 0, False),
        ("NAME_CONTRACT_TYPE", "a kind of loan that nobody has heard of", True),
        ("NAME_CONTRACT_TYPE", "", False),
        ("NAME_CONTRACT_TYPE", "x" * 100, True),
        ("NAME_CONTRACT_TYPE", "x" * 101, False),
    ],
)
def test_rule_1_what_is_legal(name, value, legal):
    assert in_a_request(name, value) is legal
    assert in_json(name, value) is legal
    assert in_a_file(name, value) is legal


@by_number
def test_rule_1_the_bounds_are_legal_and_the_next_numbers_outside_are_not(column):
    below, above = math.nextafter(column.low, -math.inf), math.nextafter(column.high, math.inf)
    rule = f"{column.name}: must be between {column.low:.12g} and {column.high:.12g} (1 row: 1)"
    high = REQUIRED["AMT_CREDIT"] if column.name == "AMT_ANNUITY" else column.high  # it is at most the credit
    for bound in (column.low, high):
        assert in_a_request(column.name, bound)
        assert in_a_file(column.name, bound)
    for outside in (below, above):
        assert not in_a_request(column.name, outside)
        assert rule in map(str, find_violations(columns({column.name: outside})))


@by_number
def test_rule_1_infinity_is_refused(column):
    assert not in_a_request(column.name, math.inf)
    [violation] = find_violations(columns({column.name: math.inf}))
    assert str(violation) == f"{column.name}: must be finite (1 row: 1)"


@by_number
def test_rule_1_a_request_says_null_and_not_nan(column):
    with pytest.raises(ValidationError) as caught:
        Application.model_validate({**REQUIRED, column.name: math.nan})
    assert "finite_number" in {error["type"] for error in caught.value.errors()}
    assert {error["loc"][0] for error in caught.value.errors()} == {column.name}


@by_column
def test_rule_1_a_value_of_the_other_kind_is_refused_in_a_request(column):
    assert not in_a_request(column.name, "1" if column.numeric else 1)
    assert in_a_request(column.name, True) == in_json(column.name, False) == (column.kind is ColumnKind.FLAG)
    assert not in_a_request(column.name, [])


@by_column
def test_rule_1_the_model_repeats_the_declaration(column):
    field = Application.model_fields[Application.fields[column.name]]
    assert field.is_required() is column.required
    assert field.description == f"{column.description} [{column.unit}]"


def test_rule_1_the_model_has_exactly_the_declared_columns_in_their_order():
    assert tuple(field.alias for field in Application.model_fields.values()) == NAMES


def test_rule_1_the_features_start_with_exactly_the_declared_columns_in_their_order():
    raw = tuple(feature for feature in CATALOGUE if feature.expression is None and feature.group != "history")
    assert tuple(feature.name for feature in CATALOGUE[: len(raw)]) == NAMES
    assert all(feature.sources == (feature.name,) and feature.group == "baseline" for feature in raw)


def test_rule_1_every_source_of_a_feature_is_declared():
    rolled_up = {column.name for column in APPLICATION.rolled_up}
    assert {source for feature in CATALOGUE for source in feature.sources} == {*NAMES, *rolled_up}


def test_rule_1_the_generated_file_has_the_declared_columns_in_their_order(generated_csv):
    assert open_file(generated_csv, PORTFOLIO).header == ("SK_ID_CURR", "TARGET", *NAMES)


def test_rule_1_the_names_and_their_order_are_those_of_the_public_data():
    header = ",".join(("SK_ID_CURR", "TARGET", *NAMES))  # head -1 application_train.csv | tr -d '\n' | sha256sum
    assert hashlib.sha256(header.encode()).hexdigest() == (
        "c00f86f358b01fb1ff691d059d56a989520bcb3b4d7fc697646e7dc37ce38c49"
    )


@needs_home_credit
@pytest.mark.parametrize(
    ("file", "first"), [("application_train", ("SK_ID_CURR", "TARGET")), ("application_test", ("SK_ID_CURR",))]
)
def test_rule_1_the_real_header_has_the_declared_columns_in_their_order(file, first):
    with (HOME_CREDIT / f"{file}.csv").open(encoding="utf-8", newline="") as lines:
        assert tuple(next(csv.reader(lines))) == (*first, *NAMES)


@needs_home_credit
def test_rule_1_no_real_application_breaks_a_declared_rule():
    batches = list(open_file(HOME_CREDIT / "application_train.csv", PORTFOLIO).batches(100_000))
    assert [violation.rule for batch in batches for violation in batch.violations] == []
    assert sum(map(len, batches)) > 30_000


@by_column
def test_a_declaration_is_complete(column):
    assert column.description
    assert column.unit
    assert column.low < column.high
    if column.numeric:
        assert np.isfinite([column.low, column.high]).all()
        assert column.levels == ()
    else:
        assert len(set(column.levels)) == len(column.levels) > 1
        assert set(column.levels).isdisjoint(column.missing)


@by_column
def test_the_kind_of_a_column_says_how_it_is_stored(column):
    assert column.numeric is (column.kind is not ColumnKind.CATEGORY)
    assert column.whole is (column.kind in (ColumnKind.COUNT, ColumnKind.FLAG))


def test_only_what_the_amount_and_its_cost_hang_on_is_required():
    assert {column.name for column in APPLICATION if column.required} == set(REQUIRED)


def test_the_codes_for_missing_are_those_of_the_data():
    numeric = {column.name: column.missing for column in APPLICATION.numeric if column.missing}
    assert numeric == {
        "DAYS_EMPLOYED": (365243.0,),
        "REGION_RATING_CLIENT": (-1.0,),
        "REGION_RATING_CLIENT_W_CITY": (-1.0,),
        "DAYS_LAST_PHONE_CHANGE": (0.0,),
    }
    categorical = {column.name: column.missing for column in APPLICATION.categorical}
    assert categorical.pop("NAME_FAMILY_STATUS") == ("XNA", "Unknown")
    assert set(categorical.values()) == {("XNA",)}


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ({"AMT_INCOME_TOTAL": 0, "AMT_CREDIT": 0, "AMT_ANNUITY": 0}, "AMT_INCOME_TOTAL: must be between 1 and"),
        ({"AMT_CREDIT": 0}, "AMT_CREDIT: must be between 1 and"),
        ({"AMT_ANNUITY": 400_001}, "AMT_ANNUITY: must be at most AMT_CREDIT"),
        ({"CNT_CHILDREN": 3, "CNT_FAM_MEMBERS": 2}, "CNT_CHILDREN: must be at most CNT_FAM_MEMBERS"),
        ({"DAYS_BIRTH": -9_000, "DAYS_EMPLOYED": -9_001}, "DAYS_BIRTH: must be at most DAYS_EMPLOYED"),
    ],
)
def test_rule_1_an_implausible_application_is_refused_everywhere_by_rule_and_columns(record, rule):
    assert str(find_violations(columns(record))[0]).startswith(rule)
    with pytest.raises(ValidationError) as caught:
        Application.model_validate_json(json.dumps({**REQUIRED, **record}))
    if " at most " in rule:
        assert caught.value.errors()[0]["msg"] == rule.replace(":", "")


@pytest.mark.parametrize(
    "record",
    [
        {"AMT_ANNUITY": 400_000},
        {"CNT_CHILDREN": 3},
        {"CNT_FAM_MEMBERS": 2},
        {"DAYS_BIRTH": -9_000, "DAYS_EMPLOYED": 365_243},
        {"DAYS_BIRTH": -9_000, "DAYS_EMPLOYED": -9_000},
    ],
)
def test_rule_1_what_is_equal_missing_or_a_code_breaks_no_order(record):
    assert find_violations(columns(record)) == []
    Application.model_validate_json(json.dumps({**REQUIRED, **record}))


@needs_home_credit
def test_rule_1_no_real_application_is_implausible():
    for name in ("application_train.csv", "application_test.csv"):
        for batch in open_file(HOME_CREDIT / name, PORTFOLIO).batches(50_000):
            assert batch.violations == []


def test_true_and_false_are_one_and_zero_to_the_model():
    names = [column.name for column in APPLICATION if column.kind is ColumnKind.FLAG]
    stated = [dict.fromkeys(names, value) for value in (True, 1, False, 0)]
    read = columns_of([Application(**REQUIRED, **record) for record in stated]).numbers
    assert read[0].tobytes() == read[1].tobytes() != read[2].tobytes() == read[3].tobytes()
