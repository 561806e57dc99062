"""The operations on literal values, shape (m, k, n)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import operations
from features.operations import OPERATIONS, row_operation

NAN = np.nan
NONE = np.empty((0, 1, 1))


def on_rows(operation, rows, weights=NONE):
    """The operation on one feature of several rows."""
    return operation(np.array(rows, dtype=np.float64).T[:, np.newaxis, :], weights)[0].tolist()


@pytest.mark.parametrize(
    ("operation", "rows", "expected"),
    [
        (operations.ratio, [[6, 3], [3, 6], [0, 5], [-4, 2]], [2, 0.5, 0, -2]),
        (operations.ratio, [[6, 0], [0, 0], [NAN, 2], [2, NAN]], [NAN, NAN, NAN, NAN]),
        (operations.difference, [[6, 2], [2, 6], [NAN, 2], [2, NAN]], [4, -4, NAN, NAN]),
        (operations.missing, [[NAN], [0], [5]], [1, 0, 0]),
        (operations.missing_count, [[NAN, NAN, 1], [0, 0, 0], [NAN, NAN, NAN]], [2, 0, 3]),
        (operations.total, [[1, 2, 4], [1, NAN, 4], [0, NAN, NAN], [NAN, NAN, NAN]], [7, 5, 0, NAN]),
        (operations.minimum, [[3, 1, 2], [NAN, 3, 2], [NAN, NAN, NAN]], [1, 2, NAN]),
        (operations.maximum, [[3, 1, 2], [NAN, 2, 3], [NAN, NAN, NAN]], [3, 3, NAN]),
        (operations.deviation, [[1, 3, 1, 3], [1, NAN, 3, NAN], [7, NAN, NAN, NAN], [NAN] * 4], [1, 1, 0, NAN]),
        (operations.product, [[2, 3, 4], [2, 0, 4], [2, NAN, 4]], [24, 0, NAN]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_operation_without_weights(operation, rows, expected):
    np.testing.assert_array_equal(on_rows(operation, rows), expected)


def test_a_source_times_its_weight():
    np.testing.assert_array_equal(on_rows(operations.scaled, [[4], [NAN], [-2]], np.array([[[-0.5]]])), [-2, NAN, 1])


def test_a_weighted_mean_is_over_the_weights_of_what_is_present():
    rows = [[1, 2, 3], [1, NAN, 3], [NAN, 2, NAN], [NAN, NAN, NAN]]
    expected = [(2 + 2 + 9) / 6, 11 / 5, 2, NAN]
    np.testing.assert_array_equal(
        on_rows(operations.weighted_mean, rows, np.array([2.0, 1.0, 3.0]).reshape(3, 1, 1)), expected
    )


@pytest.mark.parametrize(
    ("operation", "weights", "expected"),
    [
        (operations.ratio, np.empty((0, 2, 1)), [[2, 0.25], [1, 5]]),
        (operations.product, np.empty((0, 2, 1)), [[8, 4], [1, 5]]),
        (operations.scaled, np.array([[[10.0], [100.0]]]), [[40, 100], [10, 500]]),
        (operations.weighted_mean, np.array([[[1.0], [1.0]], [[1.0], [3.0]]]), [[3, 3.25], [1, 2]]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_feature_of_a_row_has_its_own_sources_and_weights(operation, weights, expected):
    values = np.array([[[4.0, 2.0], [1.0, 4.0]], [[1.0, 1.0], [5.0, 1.0]]])
    np.testing.assert_array_equal(operation(values.transpose(2, 1, 0), weights).T, expected)


SOURCES = {
    "scaled": 1,
    "missing": 1,
    "absolute": 1,
    "negation": 1,
    "log1p": 1,
    "when": 3,
    "clip": 3,
    "weighted_mean": 3,
}
SOURCES |= dict.fromkeys(["missing_count", "total", "minimum", "maximum", "deviation", "product"], 5)
ROW_VALUES = st.sampled_from([math.nan, 0.0, -0.0, 1.0, -1.0, 365243.0, 1e9]) | st.integers(-1000, 1000).map(float)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=60)
@given(data=st.data())
def test_one_row_in_floats_has_the_bits_of_arrays(name: str, data: st.DataObject) -> None:
    count = SOURCES.get(name, 2)
    values = data.draw(st.tuples(*[ROW_VALUES] * count))
    weights = data.draw(st.tuples(*[st.floats(0.1, 9)] * count))
    arrays = np.repeat(np.array(values).reshape(-1, 1, 1), 3, axis=2)
    with np.errstate(invalid="ignore"):
        expected = OPERATIONS[name](arrays, np.array(weights).reshape(-1, 1, 1))[0, 0]
    assert np.float64(row_operation(name)(values, weights)).tobytes() == expected.tobytes()
