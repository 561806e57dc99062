"""The bins of a drift reference, on values that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.drift_reference import category_bins, quantile_bins


@pytest.mark.parametrize(
    ("values", "count", "edges", "counts"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, (1, 3, 5), (2, 2, 2, 2)),
        ([0, 1, 2, 2, 2, 2, 2, 3], 4, (1, 2), (2, 5, 1)),  # 2 is two quartiles and has a bin of its own
        ([0, 1, 2, 3, 3, 3, 3, 3], 4, (1, 2), (2, 1, 5)),  # so has the largest value where a quartile is
        ([0, 1, 1, 1, 2, 3, 4, 5], 4, (0, 1, 3), (1, 3, 2, 2)),  # so has one of just two quartiles
        ([0, 0, 0, 0, 0, 0, 0, 1], 4, (0,), (7, 1)),  # a flag that is hardly ever set
        ([0, 1, 1, 1, 1, 1, 1, 1], 4, (0,), (1, 7)),
        ([5, 5, 5, 5], 4, (5,), (4, 0)),
        ([3, 1, 2, 0], 2, (1,), (2, 2)),
        ([0, 1, 2, 3, 4, 5, 6], 4, (1, 3, 5), (2, 2, 2, 1)),  # a quartile of seven ends with the value that fills it
        ([], 4, (), (0,)),
    ],
)
def test_bins_hold_about_the_same_number_of_rows(values, count, edges, counts):
    found = quantile_bins(np.array([*values, np.nan], dtype=float), count)
    assert (found.kind, found.edges, found.counts) == ("numeric", edges, (*counts, 0, 1))


def test_an_infinite_value_is_no_edge():
    assert quantile_bins(np.array([1.0, 2.0, np.inf, np.inf]), 4).edges == (1.0, 2.0)
    assert quantile_bins(np.array([-np.inf, -np.inf, 2.0, 3.0]), 4).edges == (2.0,)
    assert quantile_bins(np.array([np.inf, np.inf]), 4).edges == ()


def test_a_category_has_a_bin_for_each_code_one_for_the_unknown_and_one_for_the_missing():
    found = category_bins(np.array([0.0, 1.0, 1.0, 2.0, 7.0, np.nan]), 3)
    assert (found.kind, found.edges, found.counts) == ("category", (0.0, 1.0, 2.0), (1, 2, 1, 1, 1))
