"""Applications and features as JSON values."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from credit_scoring_client.application import encoded_application, encoded_features, encoded_items
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("Cash loans", "Cash loans"),
        ("", ""),
        (0, 0),
        (-1.5, -1.5),
        (True, True),
        (None, None),
        (math.nan, None),
        (np.float64(2.5), 2.5),
        (np.float32(0.25), 0.25),
        (np.int64(-9461), -9461),
        (np.bool_(True), True),
        (np.str_("XNA"), "XNA"),
        (np.float64("nan"), None),
        (np.float32("nan"), None),
        (np.datetime64("NaT"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (Decimal("2.5"), 2.5),
        (Decimal("NaN"), None),
    ],
)
def test_a_value_is_sent_as_json(value, sent):
    encoded = encoded_application({"COLUMN": value})["COLUMN"]
    assert json.dumps(encoded) == json.dumps(sent)


@pytest.mark.parametrize("value", [math.inf, -math.inf, np.float64("inf"), np.float32("-inf"), Decimal("Infinity")])
def test_an_infinity_is_refused_by_column_and_not_by_value(value):
    message = r"^AMT_CREDIT is infinite; a number must be finite, or NaN where it is missing$"
    with pytest.raises(ValueError, match=message):
        encoded_application({"AMT_INCOME_TOTAL": 1.0, "AMT_CREDIT": value})


@pytest.mark.parametrize(
    "value",
    [b"Cash loans", [1.0], {}, date(2025, 1, 1), 1j, np.array([1.0]), np.array(1.0), np.ma.masked],
    ids=repr,
)
def test_a_value_that_json_has_not_is_refused(value):
    with pytest.raises(TypeError, match=r"^AMT_CREDIT must be a number, text, bool or None$"):
        encoded_application({"AMT_CREDIT": value})


def test_an_application_is_a_mapping():
    with pytest.raises(TypeError, match=r"^application must be a mapping of columns to values$"):
        encoded_application([("AMT_CREDIT", 1.0)])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"AMT_CREDIT": [1]}, r"applications[1].AMT_CREDIT must be a number, text, bool or None"),
        (("a", {"AMT_CREDIT": [1]}), r"applications[1].AMT_CREDIT must be a number, text, bool or None"),
        ((100002, {}), r"applications[1].client_id must be text or None"),
        (("a", "b"), r"applications[1].application must be a mapping of columns to values"),
        ("AMT_CREDIT", r"applications[1] must be a mapping of columns or a pair (client_id, mapping)"),
        (("a", {}, 1), r"applications[1] must be a mapping of columns or a pair (client_id, mapping)"),
    ],
)
def test_an_item_of_a_batch_is_refused_by_its_position(item, message):
    with pytest.raises(TypeError) as caught:
        encoded_items([{}, item])
    assert str(caught.value) == message


@given(st.lists(st.none() | st.floats(allow_infinity=False)))
def test_a_feature_vector_keeps_its_length_and_every_finite_number(features):
    expected = [None if value is None or math.isnan(value) else value for value in features]
    assert encoded_features(np.array(features, dtype=float)) == expected
    assert encoded_features(features) == expected
