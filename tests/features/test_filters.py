from __future__ import annotations

import numpy as np
import pytest

from features.fitting import constant, correlated

NAN = np.nan
A = np.array([1.0] * 8 + [-1.0] * 8)
HALF = np.array([1.0] * 6 + [-1.0] * 4 + [1.0] * 2 + [-1.0] * 4)  # its correlation with A is exactly 0.5
APART = np.array([1.0, -1.0] * 8)


def dropped(*columns: np.ndarray, threshold: float = 0.9, among: list[bool] | None = None, **rest) -> list[bool]:
    matrix = np.column_stack(columns)
    return correlated(matrix, threshold, among=np.array(among or [True] * len(columns)), **rest).tolist()


@pytest.mark.parametrize(
    ("column", "share", "expected"),
    [
        ([1, 1, 1, 2], 0.75, True),
        ([1, 1, 1, 2], 0.76, False),
        ([NAN, NAN, NAN, 2], 0.75, True),
        ([NAN, NAN, 1, 1], 0.75, False),
        ([0, 0, 0, NAN], 0.75, True),
        ([5, 5, 5, 5], 1.0, True),
        ([1, 2, 3, 4], 0.25, True),
    ],
)
def test_a_column_is_constant_when_its_commonest_value_has_the_share(column, share, expected):
    assert constant(np.array([column, [1, 2, 3, 4]], dtype=np.float64).T, share).tolist() == [expected, share <= 0.25]


@pytest.mark.parametrize(
    ("other", "threshold", "expected"),
    [
        (A, 0.9, True),
        (-3 * A + 7, 0.9, True),
        (APART, 0.9, False),
        (HALF, 0.49, True),
        (HALF, 0.5, False),
        (-HALF, 0.49, True),
    ],
)
def test_the_later_column_is_dropped_when_the_correlation_exceeds_the_threshold(other, threshold, expected):
    assert dropped(A, other, threshold=threshold) == [False, expected]


def test_a_column_is_compared_with_those_that_are_kept_and_not_with_those_that_are_dropped():
    almost = A + 0.6 * APART  # agrees with A and, a little less, with the next
    further = A + 1.2 * APART
    assert dropped(A, further, threshold=0.7) == [False, False]
    assert dropped(A, almost, threshold=0.7) == [False, True]
    assert dropped(almost, further, threshold=0.7) == [False, True]
    assert dropped(A, almost, further, threshold=0.7) == [False, True, False]


def test_only_the_columns_among_the_given_are_compared():
    assert dropped(A, A, A, among=[False, True, True]) == [False, False, True]
    assert dropped(A, A, among=[True, False]) == [False, False]


def test_categories_are_not_compared():
    assert dropped(A, A, A, categorical=(0,)) == [False, False, True]
    assert dropped(A, A, A, categorical=(1,)) == [False, False, True]


def test_the_mask_that_was_given_is_not_changed():
    among = np.array([True, True])
    correlated(np.column_stack([A, A]), 0.9, among=among, categorical=(0,))
    assert among.tolist() == [True, True]


def test_a_missing_value_stands_at_the_mean_of_its_column():
    holed = A.copy()
    holed[[0, 15]] = NAN  # correlation with A: 14 / sqrt(14 * 16) = 0.935
    assert dropped(A, holed, threshold=0.93) == [False, True]
    assert dropped(A, holed, threshold=0.94) == [False, False]
    shifted = holed + 1000
    assert dropped(A, shifted, threshold=0.93) == [False, True]


@pytest.mark.parametrize("other", [np.full(16, NAN), np.full(16, 3.0)], ids=["missing", "constant"])
def test_a_column_without_variation_correlates_with_nothing(other):
    assert dropped(other, A, other, A) == [False, False, False, True]


def test_there_may_be_nothing_to_compare():
    assert dropped(A, A, among=[False, False]) == [False, False]
