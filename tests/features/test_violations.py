from __future__ import annotations

import numpy as np
import pytest

from features.validation import RuleViolation, find_violations, merge_violations
from tests.features.examples import columns


def broken(*rows: int, column: str = "AMT_CREDIT", rule: str = "is required") -> RuleViolation:
    return RuleViolation(column, rule, np.array(rows, dtype=np.intp))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ((), "AMT_CREDIT: is required"),
        ((0,), "AMT_CREDIT: is required (1 row: 1)"),
        ((0, 41), "AMT_CREDIT: is required (2 rows: 1, 42)"),
        ((0, 1, 2, 3, 4), "AMT_CREDIT: is required (5 rows: 1, 2, 3, 4, 5)"),
        ((0, 1, 2, 3, 4, 9), "AMT_CREDIT: is required (6 rows: 1, 2, 3, 4, 5, ...)"),
    ],
)
def test_a_violation_names_the_column_the_rule_and_the_first_rows_counted_from_1(rows, text):
    assert str(broken(*rows)) == text
    assert broken(*rows).count == len(rows)


def test_the_rows_of_a_later_batch_are_counted_from_the_first():
    moved = broken(0, 2).shifted(100)
    assert (moved.column, moved.rule, moved.rows.tolist()) == ("AMT_CREDIT", "is required", [100, 102])


def test_the_same_rule_on_the_same_column_is_one_violation():
    found = [broken(1), broken(2, rule="must be finite"), broken(3, column="AMT_ANNUITY"), broken(7, 8)]
    assert [(v.column, v.rule, v.rows.tolist()) for v in merge_violations(found)] == [
        ("AMT_ANNUITY", "is required", [3]),
        ("AMT_CREDIT", "is required", [1, 7, 8]),
        ("AMT_CREDIT", "must be finite", [2]),
    ]
    assert merge_violations([]) == []


@pytest.mark.parametrize(
    ("number", "found"), [(2, []), (2 + 0.9e-9, []), (2 + 1.5e-9, ["CNT_CHILDREN: must be a whole number (1 row: 1)"])]
)
def test_a_whole_number_is_one_to_nine_decimals(number, found):
    assert [str(violation) for violation in find_violations(columns({"CNT_CHILDREN": number}))] == found
