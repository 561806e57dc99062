"""What a portfolio may declare, and what is refused by its key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.errors import SchemaError
from features.portfolio import Portfolio, portfolio_of
from features.schema import ColumnKind, Protection
from jobs.errors import SettingsError
from tests.home_credit import PORTFOLIO

MINIMAL: dict[str, Any] = {
    "name": "small",
    "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
    "columns": {"income": {"kind": "number"}},
}


def declared(**parts: Any) -> Portfolio:
    return Portfolio.of(MINIMAL | parts)


def column(**parts: Any) -> Portfolio:
    return declared(columns={"x": parts})


def test_the_least_declaration_has_one_feature_and_no_identity() -> None:
    portfolio = declared()
    assert [feature.name for feature in portfolio.catalogue] == ["income"]
    assert portfolio.schema.id_column is None
    assert portfolio.schema.beside == ("bad",)
    assert (portfolio.sets, portfolio.schema.attributes) == (("baseline",), ())


def test_it_survives_its_canonical_json_and_is_one_object() -> None:
    again = portfolio_of(PORTFOLIO.content)
    assert again == PORTFOLIO
    assert again.digest == PORTFOLIO.digest
    assert portfolio_of(PORTFOLIO.content) is again
    assert again.schema == PORTFOLIO.schema


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["columns"]["AMT_CREDIT"].update(high=5),
        lambda d: d["columns"].update(MORE={"kind": "flag"}),
        lambda d: d["features"]["domain"]["credit_to_income"].update({"is": "AMT_CREDIT * 2 / AMT_INCOME_TOTAL"}),
        lambda d: d["outcome"].update(means="another"),
        lambda d: d.update(columns=dict(reversed(d["columns"].items()))),
    ],
)
def test_whatever_is_declared_otherwise_has_another_digest(change: Any) -> None:
    document = json.loads(PORTFOLIO.content)
    assert Portfolio.of(document).digest == PORTFOLIO.digest
    change(document)
    assert Portfolio.of(document).digest != PORTFOLIO.digest


def test_a_name_of_a_column_may_be_anything() -> None:
    names = ("json", "schema", "_x", "a b", "x:y", "c0", "model_config", "class")
    portfolio = declared(columns={name: {"kind": "count"} for name in names})
    assert tuple(found.name for found in portfolio.schema) == names


def test_levels_that_are_numbers_are_codes() -> None:
    found = column(kind="category", levels=[1, 2, 3], missing=[9]).schema["x"]
    assert (found.coded, found.levels, found.missing) == (True, ("1", "2", "3"), ("9",))


def test_the_bounds_of_a_date_are_dates() -> None:
    portfolio = declared(
        columns={"day": {"kind": "date", "low": "1970-01-02", "high": "1970-02-01"}, "x": {"kind": "flag"}}
    )
    found = portfolio.schema["day"]
    assert (found.low, found.high, found.kind) == (1.0, 31.0, ColumnKind.DATE)
    assert found.range == "between 1970-01-02 and 1970-02-01"
    assert [feature.name for feature in portfolio.catalogue] == ["x"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"kind": "category", "levels": ["F", "M"], "protected": "sex"},
         [Protection(attribute="sex", groups=(("F", ("F",)), ("M", ("M",))))]),
        ({"kind": "category", "levels": ["F", "M"], "protected": ["sex", "gender"]},
         [Protection(attribute=name, groups=(("F", ("F",)), ("M", ("M",)))) for name in ("sex", "gender")]),
        ({"kind": "category", "protected": {"sex": {"groups": {"women": ["a", "b"]}}}},
         [Protection(attribute="sex", groups=(("women", ("a", "b")),))]),
        ({"kind": "count", "protected": "age"},
         [Protection(attribute="age", bands=(25.0, 40.0, 62.0), elderly=62.0)]),
        ({"kind": "count", "protected": {"age": {"bands": [30], "per_unit": -365.25}}},
         [Protection(attribute="age", bands=(30.0,), per_unit=-365.25)]),
    ],
)  # fmt: skip
def test_protected_attributes_are_free_names_with_groups_or_bands(
    parts: dict[str, Any], expected: list[Protection]
) -> None:
    assert list(column(**parts).schema["x"].protections) == expected


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"kind": "text"}, "columns.x.kind: Input should be 'number', 'count', 'flag', 'category' or 'date'"),
        ({"kind": "number", "hihg": 3}, "columns.x.hihg: Extra inputs are not permitted"),
        ({"kind": "number", "low": 3, "high": 2}, "low must be at most high"),
        ({"kind": "flag", "low": 0}, "only numbers, counts and dates have bounds"),
        ({"kind": "category", "high": 5}, "only numbers, counts and dates have bounds"),
        ({"kind": "number", "levels": ["a"]}, "only categories have levels"),
        ({"kind": "number", "missing": ["NA"]}, "codes for missing must be numbers"),
        ({"kind": "category", "levels": ["a", "a"]}, "levels must differ"),
        ({"kind": "category", "levels": ["a"], "missing": ["a"]}, "a level cannot be a code for missing"),
        ({"kind": "number", "low": "2026-01-01"}, "bounds are numbers, or texts such as 2026-01-31 of a date"),
        ({"kind": "date", "low": 5}, "bounds are numbers, or texts such as 2026-01-31 of a date"),
        ({"kind": "category", "most_levels": 0}, "columns.x.most_levels: "),
        ({"kind": "number", "protected": "income class"}, "a number needs rising bands, such as [25, 40, 62]"),
        ({"kind": "number", "protected": {"age": {"bands": [40, 25]}}}, "a number needs rising bands"),
        ({"kind": "number", "protected": {"age": {"bands": [25], "elderly": 62}}}, "elderly must be one of the bands"),
        ({"kind": "category", "protected": {"age": {"bands": [25]}}}, "bands are of numbers"),
        ({"kind": "category", "levels": ["F", "M"], "protected": {"sex": {"groups": {"men": ["m"]}}}},
         "sex: groups must hold declared levels, each once, not m"),
        ({"kind": "category", "levels": ["F"], "protected": {"sex": {"groups": {"a": ["F"], "b": ["F"]}}}},
         "sex: groups must hold declared levels, each once, not one that is in two groups"),
    ],
)  # fmt: skip
def test_a_column_that_makes_no_sense_is_refused_by_its_key(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        column(**parts)
    assert "columns.x" in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"name": "Small Loans"}, "name: "),
        ({"columns": {}}, "columns: "),
        ({"outcome": {"column": "bad", "bad": ["1"], "good": ["1"]}}, "both bad and good: 1"),
        ({"outcome": {"column": "bad", "bad": [], "good": ["1"]}}, "outcome.bad: "),
        ({"files": {"separator": ",", "decimal": ","}}, "separator and decimal must differ"),
        ({"identity": {"column": "id", "kind": "uuid"}}, "identity.kind: "),
        ({"identity": {"column": "income"}}, "declared twice: income"),
        ({"outcome": {"column": "income", "bad": ["1"], "good": ["0"]}}, "declared twice: income"),
        ({"orders": [{"smaller": "income", "larger": "wealth"}]}, "an order needs two declared numeric columns"),
        ({"decided_on": "income"}, "decided_on: income is no date"),
        ({"decided_on": "day"}, "'day' is not declared"),
        ({"features": {"baseline": {"x": {"is": "income * 2"}}}}, "features.baseline.x: is a column or a set already"),
        ({"features": {"own": {"income": {"is": "income * 2"}}}}, "features.own.income: is a column or a set already"),
        ({"features": {"own": {"x": {"formula": "income * 2"}}}}, "features.own.x."),
        ({"motives": {}}, "motives: Extra inputs are not permitted"),
        ({"reasons": {}}, "reasons.missing: Field required"),
    ],
)  # fmt: skip
def test_a_portfolio_that_makes_no_sense_is_refused_by_its_key(parts: dict[str, Any], said: str) -> None:
    with pytest.raises((SettingsError, SchemaError)) as refusal:
        declared(**parts)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_wrong_is_named(tmp_path: Any) -> None:
    (tmp_path / "portfolio.yaml").write_text("name: small\nname: other\n")
    with pytest.raises(SettingsError, match=r"portfolio\.yaml: not YAML .*repeated key: name"):
        Portfolio.load(tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        Portfolio.load(tmp_path / "nowhere")
