"""Rule 2: a feature of a row depends on that row alone, bit for bit; one request is n = 1 of the same code."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.files import open_file
from features.request import Record
from features.transformer import Columns, FeatureState, FeatureTransformer, concatenate
from features.validation import find_violations
from tests.features.examples import NAMES, bits, columns, generate, read
from tests.home_credit import APPLICATION, PORTFOLIO, STATED_NUMBERS, Application, columns_of
from tests.skipped import HOME_CREDIT, needs_home_credit

AWKWARD = [math.nan, 0.0, -0.0, 1.0, -1.0, 0.1, 365243.0, 1e9, -43830.0]
CELLS = st.lists(
    st.tuples(st.integers(0, len(APPLICATION.numeric) - 1), st.sampled_from(AWKWARD) | st.floats(-1e6, 1e6, width=32)),
    max_size=12,
)
LEVELS = st.lists(
    st.tuples(st.integers(0, len(APPLICATION.categorical) - 1), st.sampled_from([None, "XNA", "Working", "new"])),
    max_size=6,
)
ROWS = st.lists(st.tuples(st.integers(0, 299), CELLS, LEVELS), min_size=1, max_size=8)


def drawn(applications: Columns, rows: list) -> Columns:
    """Generated applications with some cells replaced."""
    taken = applications.take(np.array([row for row, _, _ in rows], dtype=np.intp))
    chosen = Columns(taken.numbers, taken.levels.copy(), PORTFOLIO)
    for i, (_, cells, levels) in enumerate(rows):
        for column, value in cells:
            chosen.numbers[i, column] = value
        for column, level in levels:
            chosen.levels[i, column] = level
    return chosen


@settings(max_examples=60)
@given(a=ROWS, b=ROWS)
def test_rule_2_the_features_of_two_parts_are_the_parts_of_the_features(applications, fitted, a, b):
    transform = FeatureTransformer(fitted).transform
    first, second = drawn(applications, a), drawn(applications, b)
    apart = np.concatenate([transform(first), transform(second)])
    assert bits(transform(concatenate([first, second]))) == bits(apart)


@settings(max_examples=40)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_rule_2_the_order_of_the_rows_is_the_order_of_their_features(applications, fitted, rows, random):
    transform = FeatureTransformer(fitted).transform
    raw, order = drawn(applications, rows), list(range(len(rows)))
    random.shuffle(order)
    order = np.array(order, dtype=np.intp)
    assert bits(transform(raw.take(order))) == bits(transform(raw)[order])


@pytest.mark.parametrize("size", [1, 7, 299])
def test_rule_2_batches_of_any_size_give_the_same_bits(applications, fitted, size):
    transform = FeatureTransformer(fitted).transform
    batches = [applications.take(slice(start, start + size)) for start in range(0, 300, size)]
    assert bits(np.concatenate([transform(batch) for batch in batches])) == bits(transform(applications))


def test_rule_2_a_row_far_down_a_large_batch_has_the_bits_it_has_alone(applications, fitted):
    transform = FeatureTransformer(fitted).transform
    many = applications.take(np.arange(40_000) % 300)
    large, alone = transform(many), transform(applications)
    assert bits(large) == bits(alone[np.arange(40_000) % 300])


def test_rule_2_the_layout_of_the_memory_does_not_matter(applications, fitted):
    transform = FeatureTransformer(fitted).transform
    other = Columns(np.asfortranarray(applications.numbers), np.asfortranarray(applications.levels), PORTFOLIO)
    assert bits(transform(other)) == bits(transform(applications))


def test_rule_2_no_state_is_kept_between_calls(applications, fitted):
    transformer = FeatureTransformer(fitted)
    before = transformer.transform(applications)
    transformer.transform(columns({"AMT_CREDIT": 1e9, "ORGANIZATION_TYPE": "never seen", "EXT_SOURCE_1": None}))
    assert bits(transformer.transform(applications)) == bits(before)


def test_rule_2_the_input_is_not_changed(applications, fitted):
    raw = Columns(applications.numbers.copy(), applications.levels.copy(), PORTFOLIO)
    FeatureTransformer(fitted).transform(raw)
    assert bits(raw.numbers) == bits(applications.numbers)
    assert raw.levels.tolist() == applications.levels.tolist()


def as_requests(raw: Columns) -> list[Record]:
    """The applications as the API takes them: what is missing is left out."""
    requests = []
    for numbers, levels in zip(raw.numbers, raw.levels, strict=True):
        stated = {column.name: value for column, value in zip(APPLICATION.numeric, numbers, strict=True)}
        stated = {name: value for name, value in stated.items() if not math.isnan(value)}
        stated |= {column.name: level for column, level in zip(APPLICATION.categorical, levels, strict=True) if level}
        requests.append(Application.model_validate(stated))
    return requests


def test_rule_2_a_request_has_the_features_of_the_same_row_in_a_file(applications, fitted):
    transform = FeatureTransformer(fitted).transform
    from_file = transform(applications)
    for row, request in enumerate(as_requests(applications)):
        alone = columns_of([request])
        assert bits(alone.numbers) == bits(applications.numbers[row])
        assert bits(transform(alone)) == bits(from_file[row])


@needs_home_credit
def test_rule_2_a_request_has_the_features_of_the_same_row_in_a_real_file(fitted):
    transform = FeatureTransformer(fitted).transform
    raw = next(open_file(HOME_CREDIT / "application_test.csv", PORTFOLIO).batches(300)).columns
    one_by_one = [transform(columns_of([request])) for request in as_requests(raw)]
    assert bits(np.concatenate(one_by_one)) == bits(transform(raw))


def test_rule_2_requests_have_the_columns_of_their_rows_in_order(tmp_path, generated_csv, applications):
    with generated_csv.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))[:20]
    numeric = {column.name for column in STATED_NUMBERS}
    requests = [
        Application(
            **{name: float(record[name]) if name in numeric else record[name] for name in NAMES if record[name]}
        )
        for record in records
    ]
    assert bits(columns_of(requests).numbers) == bits(applications.numbers[:20])
    assert columns_of(requests).levels.tolist() == applications.levels[:20].tolist()


def test_rule_2_csv_and_parquet_of_the_same_applications_have_the_same_features(tmp_path, applications, fitted):
    parquet = read(generate(tmp_path / "parquet", clients=300, file_format="parquet"))
    assert bits(parquet.numbers) == bits(applications.numbers)
    assert parquet.levels.tolist() == applications.levels.tolist()
    transform = FeatureTransformer(fitted).transform
    assert bits(transform(parquet)) == bits(transform(applications))


@pytest.mark.parametrize("name", ["AMT_INCOME_TOTAL", "AMT_ANNUITY", "AMT_GOODS_PRICE", "EXT_SOURCE_3"])
def test_every_legal_application_has_features(name, fitted):
    smallest = columns({"AMT_CREDIT": 1e9, "AMT_GOODS_PRICE": 1e9, name: max(APPLICATION[name].low, 5e-324)})
    assert find_violations(smallest) == []
    unclipped = replace(fitted, clip={})
    assert FeatureTransformer(unclipped).transform(smallest).shape == (1, len(fitted.names))


def test_no_rows_have_no_features(applications, fitted):
    assert FeatureTransformer(fitted).transform(applications.take(slice(0))).shape == (0, len(fitted.names))


def test_a_state_that_was_written_and_read_gives_the_same_bits(applications, fitted):
    again = FeatureState.from_dict(fitted.to_dict(), fitted.portfolio)
    expected = FeatureTransformer(fitted).transform(applications)
    assert bits(FeatureTransformer(again).transform(applications)) == bits(expected)


def test_distinct_levels_that_a_file_had_never_outlive_the_levels(applications):
    place = APPLICATION.position["ORGANIZATION_TYPE"]
    assert applications.read is not None
    with pytest.raises(ValueError, match="read-only"):
        applications.levels[0, place] = "other"
    for some in (applications, applications.take(np.array([3, 1])), applications.take(slice(2))):
        levels, places = some.distinct(place)
        assert [levels[i] for i in places.tolist()] == some.levels[:, place].tolist()
    changed = applications.levels.copy()
    changed[:, place] = "other"
    assert set(replace(applications, levels=changed).distinct(place).levels) == {"other"}
