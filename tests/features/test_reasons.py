"""Reasons are declared in groups: every feature has one reviewed wording, in every language."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.errors import SchemaError
from features.portfolio import Portfolio
from tests.home_credit import CATALOGUE, PORTFOLIO, PROTECTED

COLUMNS = {
    "income": {"kind": "number"},
    "credit": {"kind": "number"},
    "purpose": {"kind": "category"},
    "age": {"kind": "number", "protected": "age"},
}
FEATURES = {
    "derived": {
        "share": {"is": "credit / income"},
        "double": {"is": "credit + credit"},
        "per_year": {"is": "credit / age"},
        "unknown_income": {"is": "missing(income)"},
    }
}


def wording(code: str, **words: str) -> dict[str, Any]:
    return {"code": code, "wording": words or {"en": code, "fr": code}}


def portfolio(groups: dict[str, Any], missing: dict[str, Any] | None = None) -> Portfolio:
    declared = {
        "name": "small",
        "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
        "columns": COLUMNS,
        "features": FEATURES,
        "reasons": {"missing": missing or wording("M0"), "groups": groups},
    }
    return Portfolio.of(declared)


def test_a_feature_belongs_to_the_group_of_all_its_columns_or_to_the_one_that_names_it() -> None:
    found = portfolio(
        {
            "money": wording("R1") | {"columns": ["income"], "features": ["share"]},
            "loan": wording("R2") | {"columns": ["credit"]},
        }
    ).reasons
    assert found is not None
    assert {name: group.name for name, group in found.of_feature.items()} == {
        "income": "money", "credit": "loan", "share": "money", "double": "loan", "unknown_income": "money",
    }  # fmt: skip


def test_a_name_that_looks_like_a_pattern_names_itself() -> None:
    columns = {"income [EUR]": {"kind": "number"}, "income E": {"kind": "number"}}
    groups = {"a": wording("R1") | {"columns": ["income [EUR]"]}, "b": wording("R2") | {"columns": ["income*E"]}}
    found = Portfolio.of(
        {
            "name": "small",
            "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
            "columns": columns,
            "reasons": {"missing": wording("M0"), "groups": groups},
        }
    ).reasons
    assert found is not None
    assert {name: group.name for name, group in found.of_feature.items()} == {"income [EUR]": "a", "income E": "b"}


def test_a_feature_of_two_groups_that_no_group_names_has_none() -> None:
    declared = portfolio(
        {"money": wording("R1") | {"columns": ["income"]}, "loan": wording("R2") | {"columns": ["cre*"]}}
    )
    assert declared.reasons is not None
    barred = declared.schema.protected(["age"])
    assert declared.reasons.unworded(declared.catalogue, barred) == ["purpose", "share"]
    # without the protection, features of age would need words too
    assert declared.reasons.unworded(declared.catalogue, []) == ["purpose", "age", "share", "per_year"]


def test_missing_values_have_the_reason_of_their_group_or_the_general_one() -> None:
    own = wording("R1") | {"columns": ["income"], "missing": wording("M1")}
    found = portfolio({"money": own, "loan": wording("R2") | {"columns": ["credit"]}}).reasons
    assert found is not None
    assert [reason.code for reason in found] == ["R1", "M1", "R2", "M0"]
    assert found.of_feature["income"].missing.code == "M1"
    assert found.of_feature["credit"].missing.code == "M0"


def test_wording_is_found_by_language() -> None:
    found = portfolio({"all": wording("R1", en="Income", fr="Revenu") | {"columns": ["income"]}}).reasons
    assert found is not None
    reason = found.of_feature["income"].reason
    assert (reason.text("en"), reason.text("fr")) == ("Income", "Revenu")
    with pytest.raises(SchemaError, match="reason R1 has no wording in 'de'"):
        reason.text("de")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": wording("R1") | {"columns": ["age"]}}, "age states a protected attribute, which is never a reason"),
        (
            {"a": wording("R1") | {"columns": ["none*"]}},
            r"groups\.a\.columns: none\* names none of the portfolio's columns",
        ),
        ({"a": wording("R1") | {"features": ["credit"]}}, "credit names none of the portfolio's features"),
        (
            {"a": wording("R1") | {"columns": ["credit"]}, "b": wording("R2") | {"columns": ["c*"]}},
            r"groups\.b\.columns: credit is in the group a too",
        ),
        ({"a": wording("M0", en="a", fr="b")}, "a code stands for one reason: M0"),
        ({"a": wording("R1", en="a")}, "R1 needs words in en, fr, and no others"),
        ({"a": wording("R1", en="a", fr=" ")}, "R1 has an empty wording"),
    ],
    ids=["protected", "no column", "no feature", "two groups", "one code", "languages", "empty"],
)
def test_a_wrong_declaration_is_refused(groups: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        portfolio(groups)


def test_home_credit_has_words_in_two_languages_for_every_feature_that_is_not_protected() -> None:
    reasons = PORTFOLIO.reasons
    assert reasons is not None
    barred = PORTFOLIO.schema.protected(PROTECTED)
    assert reasons.languages == ("en", "fr")
    assert set(reasons.of_feature) == {one.name for one in CATALOGUE if barred.isdisjoint(one.sources)}


def test_reasons_travel_with_the_portfolio() -> None:
    assert Portfolio.of(json.loads(PORTFOLIO.content)).reasons == PORTFOLIO.reasons
