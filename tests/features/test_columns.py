from __future__ import annotations

import numpy as np
import pytest

from features.errors import ColumnsError
from features.transformer import Columns, FeatureTransformer, concatenate
from features.validation import find_violations
from tests.features.examples import columns, state
from tests.home_credit import APPLICATION, PORTFOLIO

THREE = columns({"AMT_CREDIT": 1.0}, {"AMT_CREDIT": 2.0}, {"AMT_CREDIT": 3.0, "CODE_GENDER": "F"})


def amounts(raw: Columns) -> list[float]:
    return raw.numbers[:, APPLICATION.position["AMT_CREDIT"]].tolist()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array([2, 0, 2]), [3.0, 1.0, 3.0]),
        (np.array([True, False, True]), [1.0, 3.0]),
        (slice(1, None), [2.0, 3.0]),
        (slice(0), []),
    ],
    ids=["positions", "mask", "slice", "none"],
)
def test_rows_are_taken_in_the_order_given(rows, expected):
    taken = THREE.take(rows)
    assert amounts(taken) == expected
    assert len(taken) == len(taken.levels) == len(expected)


def test_parts_follow_one_another():
    joined = concatenate([THREE.take(slice(2)), THREE.take(slice(0)), THREE])
    assert amounts(joined) == [1.0, 2.0, 1.0, 2.0, 3.0]
    assert joined.levels[:, APPLICATION.position["CODE_GENDER"]].tolist() == [None, None, None, None, "F"]
    assert concatenate([THREE]) is THREE


@pytest.mark.parametrize("use", [find_violations, FeatureTransformer(state("AMT_CREDIT")).transform])
@pytest.mark.parametrize(
    "misshapen",
    [
        Columns(THREE.numbers[:, 1:], THREE.levels, PORTFOLIO),
        Columns(THREE.numbers, THREE.levels[:, 1:], PORTFOLIO),
        Columns(THREE.numbers, THREE.levels[1:], PORTFOLIO),
        Columns(THREE.numbers[:, 0], THREE.levels, PORTFOLIO),
    ],
    ids=["numbers", "levels", "rows", "vector"],
)
def test_columns_of_another_shape_are_refused(use, misshapen):
    declared = (3, len(APPLICATION.numeric)), (3, 16)
    given = misshapen.numbers.shape, misshapen.levels.shape
    shapes = "{} and {}, the declaration asks for {} and {}".format(*given, *declared)
    with pytest.raises(ColumnsError) as caught:
        use(misshapen)
    assert str(caught.value) == f"columns have shapes {shapes}"
