"""What an applicant can change is declared: a direction, a limit and a step, and never of a protected attribute."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from features.errors import SchemaError
from features.portfolio import Portfolio
from features.schema import Changeable
from jobs.errors import SettingsError
from tests.home_credit import APPLICATION, PORTFOLIO

COLUMNS: dict[str, Any] = {
    "credit": {"kind": "number", "low": 0, "high": 1000},
    "annuity": {"kind": "number"},
    "months": {"kind": "count", "low": 1, "high": 120},
    "purpose": {"kind": "category"},
    "insured": {"kind": "flag"},
    "age": {"kind": "count", "low": 18, "high": 120, "protected": "age"},
    "employed": {"kind": "count", "low": 0, "high": 100},
    "seniority": {"kind": "count", "low": 0, "high": 100},
}
ORDERS = [{"smaller": "employed", "larger": "age"}, {"smaller": "seniority", "larger": "employed"}]


def portfolio(column: str, changeable: dict[str, Any]) -> Portfolio:
    return Portfolio.of(
        {
            "name": "small",
            "identity": {"column": "id"},
            "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
            "columns": {**COLUMNS, column: {**COLUMNS.get(column, {}), "changeable": changeable}},
            "orders": ORDERS,
        }
    )


@pytest.mark.parametrize(
    ("column", "declared", "expected"),
    [
        ("credit", {"to": "lower", "step": 50}, Changeable(lower=True, higher=False, step=50.0)),
        ("annuity", {"to": "either", "step": 0.5, "most": 0.2},
         Changeable(lower=True, higher=True, step=0.5, most=0.2)),
        ("months", {"to": "higher"}, Changeable(lower=False, higher=True, step=1.0)),
        ("credit", {"to": "lower", "step": 50, "with": ["annuity", "months"]},
         Changeable(lower=True, higher=False, step=50.0, scaled=("annuity", "months"))),
    ],
    ids=["bounded by the column", "bounded by a share", "a count", "scaled together"],
)  # fmt: skip
def test_a_column_is_declared_changeable(column: str, declared: dict[str, Any], expected: Changeable) -> None:
    found = portfolio(column, declared)
    assert found.schema[column].changeable == expected
    assert Portfolio(found.content) == found


KIND = "changeable: only numbers and counts can be, and none that states a protected attribute"
WITH = "columns.credit.changeable: with needs other numbers or counts, each once"
STEP = "changeable: needs a step, such as 100; that of a count is a whole number"
MOST = "changeable: needs most, such as 0.5, since the column has no bound in that direction"


@pytest.mark.parametrize(
    ("column", "declared", "error"),
    [
        ("age", {"to": "higher"}, KIND),
        ("purpose", {"to": "either"}, KIND),
        ("insured", {"to": "higher"}, KIND),
        ("credit", {"to": "lower"}, STEP),
        ("months", {"to": "lower", "step": 1.5}, STEP),
        ("annuity", {"to": "lower", "step": 1}, MOST),
        ("credit", {"to": "lower", "step": 1, "with": ["credit"]}, WITH),
        ("credit", {"to": "lower", "step": 1, "with": ["months", "months"]}, WITH),
        ("credit", {"to": "lower", "step": 1, "with": ["purpose"]}, WITH),
        ("credit", {"to": "lower", "step": 1, "with": ["bad"]}, WITH),
        ("credit", {"to": "lower", "step": 1, "with": ["id"]}, WITH),
        ("credit", {"to": "lower", "step": 1, "with": ["age"]},
         "columns.credit.changeable: age states a protected attribute, or is ordered with one"),
        ("employed", {"to": "higher"},
         "columns.employed.changeable: employed states a protected attribute, or is ordered with one"),
        ("seniority", {"to": "higher"},
         "columns.seniority.changeable: seniority states a protected attribute, or is ordered with one"),
        ("id", {"to": "either"}, "kind"),
        ("credit", {"to": "upwards", "step": 1}, "to"),
        ("credit", {"to": "lower", "step": 0}, "step"),
        ("credit", {"to": "lower", "step": 1, "most": 0}, "most"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_in_one_line(column: str, declared: dict[str, Any], error: str) -> None:
    with pytest.raises((SchemaError, SettingsError)) as refused:
        portfolio(column, declared)
    assert error in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["id", "bad"])
def test_an_identity_or_an_outcome_is_no_column_that_could_be_changed(name: str) -> None:
    document = json.loads(portfolio("credit", {"to": "lower", "step": 1}).content)
    document["columns"][name] = {"kind": "number", "changeable": {"to": "either", "step": 1, "most": 1}}
    with pytest.raises(SchemaError, match=f"^declared twice: {name}$"):
        Portfolio.of(document)


def test_home_credit_declares_what_belongs_to_the_application_and_not_to_the_person() -> None:
    assert {column.name: column.changeable for column in APPLICATION if column.changeable} == {
        "AMT_CREDIT": Changeable(lower=True, higher=False, most=0.5, step=1000.0, scaled=("AMT_ANNUITY",)),
        "AMT_ANNUITY": Changeable(lower=True, higher=True, most=0.5, step=100.0),
        "AMT_GOODS_PRICE": Changeable(
            lower=True, higher=False, most=0.5, step=1000.0, scaled=("AMT_CREDIT", "AMT_ANNUITY")
        ),
    }


def test_a_declaration_without_changes_has_the_digest_that_it_always_had() -> None:
    document = json.loads(PORTFOLIO.content)
    for column in document["columns"].values():
        column.pop("changeable", None)
    assert "changeable" not in Portfolio.of(document).content.decode()


@pytest.mark.parametrize(
    ("step", "value", "expected"), [(0.1, 0.31, 0.3), (0.1, 0.7000001, 0.7), (2.5, 8.8, 10.0), (1000.0, 1499.0, 1000.0)]
)
def test_values_are_rounded_to_the_decimals_that_people_write(step: float, value: float, expected: float) -> None:
    declared = Changeable(lower=True, higher=True, step=step)
    assert declared.rounded(np.array([value, math.nan]))[:1].tolist() == [expected]
