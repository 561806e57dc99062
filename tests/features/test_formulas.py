"""Formulas on literal values, and what is no formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.errors import SchemaError
from features.formulas import Call, Constant, Source, is_never_missing, read_formula, sources
from features.portfolio import Portfolio
from features.transformer import Columns, FeatureState, FeatureTransformer
from jobs.errors import SettingsError

NAN = math.nan
COLUMNS = {
    "a": {"kind": "number"},
    "b": {"kind": "number"},
    "c d": {"kind": "number", "missing": [-1, 99]},
    "flag_1": {"kind": "flag"},
    "flag_2": {"kind": "flag", "protected": "veteran"},
    "purpose": {"kind": "category", "levels": ["car", "house"], "missing": ["?"]},
    "opened": {"kind": "date"},
    "asked": {"kind": "date"},
}


def portfolio(**formulas: str) -> Portfolio:
    features = {name: {"is": text} for name, text in formulas.items()}
    outcome = {"column": "y", "bad": ["1"], "good": ["0"]}
    return Portfolio.of({"name": "small", "outcome": outcome, "columns": COLUMNS, "features": {"own": features}})


def computed(declared: Portfolio, *names: str, **values: Any) -> list[float]:
    """The features of one application that states these values; `c` stands for the column `c d`."""
    schema = declared.schema
    numbers = np.full((1, len(schema.numeric)), NAN)
    levels = np.full((1, 1), None, dtype=object)
    for name, value in values.items():
        column = "c d" if name == "c" else name
        (numbers if schema[column].numeric else levels)[0, schema.position[column]] = value
    state = FeatureState(names=names, vocabularies={}, clip={}, portfolio=declared)
    return FeatureTransformer(state).transform(Columns(numbers, levels, declared))[0].tolist()


@pytest.mark.parametrize(
    ("formula", "values", "expected"),
    [
        ("a + b", {"a": 1, "b": 2}, 3),
        ("a + 1", {"a": 1}, 2),
        ("1 - a", {"a": 3}, -2),
        ("-a", {"a": 3}, -3),
        ("a * -0.5", {"a": 3}, -1.5),
        ("a * b * 2", {"a": 3, "b": 4}, 24),
        ("a / b", {"a": 3, "b": 0}, NAN),
        ("a / (b + 1)", {"a": 3, "b": 0}, 3),
        ("a + b", {"a": 1}, NAN),
        ("'c d' / a", {"c": 6, "a": 3}, 2),
        ("'c d' + a", {"c": -1, "a": 3}, NAN),
        ("'c d' + a", {"c": 99, "a": 3}, NAN),
        ("a < 2", {"a": 1}, 1),
        ("a <= 1", {"a": 1}, 1),
        ("a > b", {"a": 1, "b": 1}, 0),
        ("2 >= a", {"a": 3}, 0),
        ("a == b", {"a": 2, "b": 2}, 1),
        ("a != b", {"a": 2, "b": 2}, 0),
        ("a < b", {"a": 2}, NAN),
        ("a > 0 and b > 0", {"a": 1, "b": -1}, 0),
        ("a > 0 or b > 0", {"a": 1, "b": -1}, 1),
        ("a > 0 or b > 0", {"a": 1}, NAN),
        ("not a", {"a": 0}, 1),
        ("not a", {}, NAN),
        ("min(a, b)", {"a": 2}, 2),
        ("max(a, b, 5)", {"a": 2, "b": 3}, 5),
        ("sum(a, b)", {"a": 2}, 2),
        ("sum(a, b)", {}, NAN),
        ("mean(a, b)", {"a": 2, "b": 4}, 3),
        ("weighted_mean(3, 1, a, b)", {"a": 2, "b": 6}, 3),
        ("weighted_mean(3, 1, a, b)", {"b": 6}, 6),
        ("std(a, b)", {"a": 2, "b": 4}, 1),
        ("missing(a)", {}, 1),
        ("missing('c d')", {"c": 99}, 1),
        ("missing_count(a, b)", {"a": 1}, 1),
        ("missing_count(*unprotected)", {"a": 1, "flag_2": 1}, 3),
        ("sum(*'flag_*')", {"flag_1": 1, "flag_2": 1}, 2),
        ("coalesce(a, 7)", {}, 7),
        ("coalesce(a, b)", {"a": 1, "b": 2}, 1),
        ("when(a > 1, b, 0)", {"a": 2, "b": 5}, 5),
        ("when(a > 1, b, 0)", {"a": 1, "b": 5}, 0),
        ("when(a > 1, b, 0)", {"b": 5}, NAN),
        ("when(missing(a), b, a * b)", {"a": 3, "b": 5}, 15),
        ("abs(a)", {"a": -3}, 3),
        ("log1p(a)", {"a": 0}, 0),
        ("log1p(a)", {"a": -1}, NAN),
        ("clip(a, 0, 10)", {"a": 11}, 10),
        ("clip(a, 0, 10)", {}, NAN),
        ("days(asked, opened)", {"asked": 19_000, "opened": 18_000}, 1000),
        ("days(asked, opened)", {"asked": 19_000}, NAN),
        ("missing(opened)", {"asked": 19_000}, 1),
        ("purpose == 'car'", {"purpose": "car"}, 1),
        ("purpose != 'car'", {"purpose": "car"}, 0),
        ("purpose == 'house'", {"purpose": "boat"}, 0),
        ("purpose == 'car'", {"purpose": "?"}, NAN),
        ("when(purpose == 'car', a, b) / 2", {"purpose": "house", "a": 1, "b": 8}, 4),
    ],
)
def test_the_value_of_a_formula(formula: str, values: dict[str, Any], expected: float) -> None:
    np.testing.assert_array_equal(computed(portfolio(made=formula), "made", **values), [expected])


def test_a_formula_may_read_the_features_above_it() -> None:
    declared = portfolio(first="a + 1", second="first * first", third="second - first / b")
    assert computed(declared, "third", "a", "first", a=2, b=3) == [8.0, 2.0, 3.0]
    assert declared.features["third"].sources == ("a", "b")


def test_equal_parts_of_formulas_are_one_feature_in_any_order() -> None:
    declared = portfolio(one="(a + b) / 2", other="(a + b) / 2 + 1")
    assert computed(declared, "other", "one", a=2, b=4) == [4.0, 3.0]
    assert computed(declared, "one", a=2, b=4) == [3.0]


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("a +", "is no formula at its end (a name"),
        ("  a b", "is no formula at character 5 (a name"),
        ("a / b +* 2", "is no formula at character 8 (a name"),
        ("a +\n b ) c", "is no formula at character 8 (a name"),
        ("", "is no formula (a name"),
        ("x + 1", "reads x, which is neither a declared column nor a feature above"),
        ("later + 1", "reads later, which is neither"),
        ("purpose + 1", 'reads the category purpose: compare it with a level, as in purpose == "A"'),
        ("opened + 1", "reads the date opened: only days(later, earlier) and missing() take dates"),
        ("purpose == 'boat'", "compares purpose with a level that is not declared: boat"),
        ("a", "repeats the column a"),
        ("3 * 4", "computes with numbers alone"),
        ("7", "reads no column"),
        ("a if b else 1", "cannot read a if b else 1"),
        ("__import__('os').system('ls')", "cannot read"),
        ("a ** 2", "cannot read a ** 2 at character 1"),
        (
            "a + log(b)",
            "cannot read log(b) at character 5: log is none of abs, clip, coalesce, days, ",
        ),
        ("a < b < 3", "cannot read a < b < 3"),
        ("a + True", "cannot read True"),
        ("missing(a, b)", "missing takes 1 value, not 2"),
        ("when(a, b)", "when takes 3 values, not 2"),
        ("min()", "min takes some values, not 0"),
        ("weighted_mean(1, a, b)", "weighted_mean takes positive weights, then as many values"),
        ("weighted_mean(-1, a)", "weighted_mean takes positive weights"),
        ("sum(*'NOTHING_*')", "no numeric column is like NOTHING_*"),
        ("min(a, b=1)", "cannot read min(a, b=1)"),
        ("(" * 300 + "a" + ")" * 300, "is no formula"),
    ],
)
def test_what_is_no_formula_is_refused_by_the_feature(formula: str, said: str) -> None:
    with pytest.raises((SchemaError, SettingsError)) as refusal:
        portfolio(made=formula)
    assert str(refusal.value).startswith("features.own.made: ")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_product_is_one_operation_and_a_number_scales() -> None:
    schema = portfolio().schema
    assert read_formula("a * b * a", schema, {}) == Call("product", (Source("a"), Source("b"), Source("a")))
    assert read_formula("2 * a", schema, {}) == Call("scaled", (Constant(2.0), Source("a")))
    assert sources(read_formula("b + a * b", schema, {})) == ("b", "a")


@pytest.mark.parametrize(
    ("formula", "never"),
    [
        ("missing(a)", True),
        ("missing_count(a, b)", True),
        ("missing(a) + missing(b) * 2", True),
        ("coalesce(a, 0)", True),
        ("coalesce(a, b)", False),
        ("when(missing(a), 0, 1)", True),
        ("when(a, 0, 1)", False),
        ("missing(a) / missing(b)", False),
        ("a + 1", False),
    ],
)
def test_what_has_a_number_in_every_row(formula: str, never: bool) -> None:
    assert is_never_missing(read_formula(formula, portfolio().schema, {})) is never


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    declared = portfolio(
        deep="log1p(abs(a / (b + 1))) * when(purpose == 'car', std(a, b, 'c d'), mean(a, b))",
        other="clip(a * b - 'c d', -5, 5) / weighted_mean(2, 1, a, b)",
    )
    rng, schema = np.random.default_rng(5), declared.schema
    numbers = rng.normal(0, 100, (997, len(schema.numeric)))
    numbers[rng.random(numbers.shape) < 0.1] = NAN
    levels = rng.choice(np.array(["car", "house", None, "?"], dtype=object), (997, 1))
    state = FeatureState(names=("deep", "other"), vocabularies={}, clip={}, portfolio=declared)
    transformer, columns = FeatureTransformer(state), Columns(numbers, levels, declared)
    together = transformer.transform(columns)
    alone = np.concatenate([transformer.transform(columns.take(slice(i, i + 1))) for i in range(997)])
    assert together.tobytes() == alone.tobytes()
