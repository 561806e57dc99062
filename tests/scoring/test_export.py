"""The exported scorer, run in databases: every row has the decision of the service, and what cannot be is refused."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.export import DuckDB, PostgreSQL, agreement_of, decided, decisions_of, drawn_for
from features.drawing import draw_columns, draw_legal
from features.fitting import Clipping, FeatureSettings, Filters, fit_features
from features.portfolio import Portfolio
from features.transformer import Columns, FeatureState, FeatureTransformer
from features.values import as_levels
from scoring.artefact import Artefact
from scoring.cli import main
from scoring.errors import ExportError
from scoring.export import Target, lowest_margin, statement, table_statement
from scoring.model import Calibration
from scoring.policy import CompletenessRule
from scoring.scorer import Scorer
from scoring.sql import Dialect
from scoring.store import StoredModel
from tests.home_credit import PORTFOLIO
from tests.scoring.conftest import POLICY, reference
from tests.skipped import needs

FOREIGN = sorted(file.parent for file in (Path(__file__).parents[1] / "portfolios").glob("*/portfolio.yaml"))
SETTINGS = FeatureSettings(
    sets="all",
    without=(),
    category_min_count=2,
    clip=Clipping(lower=0.01, upper=0.99),
    filters=Filters(constant=None, correlation=None, importance=None),
)
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1e-36, -1e-36, 1e-35, 5e-324, 1e300, -1e300, 1e-300, 1.5e308, 12.0]
TEXTS = [
    None, "", " ", "NaN", " n/a\u2003", "\x1f#NA", "NULL", "none", "\\N", "1.#IND", "nat\x85", "\u0130", "\u212a",
    "x" * 100, "x" * 101, "é" * 100, "É" * 101, "'", '"; DROP TABLE applications; --', "2", "2.0", "02", " +2. ", "2.5",
    "-9", "-9.0", " -9 ", "1" * 25,
]  # fmt: skip


def model_of(columns: Columns, *, trees: int = 20, without: tuple[str, ...] = (), **parameters: Any) -> StoredModel:
    """A model of these applications; whether the first number is above its median is the outcome, with noise."""
    state = fit_features(columns, SETTINGS.model_copy(update={"without": without}), importance=lambda *_: np.empty(0))
    transformer, random = FeatureTransformer(state), np.random.default_rng(0)
    matrix = transformer.transform(columns)
    first = np.nan_to_num(columns.numbers[:, 0])
    outcome = (first > np.median(first)) ^ (random.random(len(columns)) < 0.2)
    chosen = {
        "objective": "binary",
        "num_leaves": 8,
        "min_data_in_leaf": 5,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
    }
    data = lgb.Dataset(matrix, outcome, categorical_feature=list(transformer.categorical))
    booster = lgb.train({**chosen, "min_data_per_group": 5, "cat_smooth": 1, **parameters}, data, num_boost_round=trees)
    known = tuple(column.name for column in columns.schema)[:4]
    artefact = Artefact(
        model_text=booster.model_to_string(),
        features=state,
        calibration=Calibration(slope=1.1, intercept=-0.1),
        policy=replace(
            POLICY, cutoff=0.5, refer_from=0.4, refer_to=0.6, level_bounds=(0.3, 0.5, 0.7),
            completeness=CompletenessRule(known=known, max_missing_share=0.3),
        ),
        reference=reference(transformer, matrix),
        metrics={},
        lineage={},
        reasons=None,
    )  # fmt: skip
    return StoredModel("made", "1-0", Scorer(artefact))


def with_extremes(columns: Columns) -> Columns:
    """The rows, with an extreme number in each of the first, and extreme texts in some of all."""
    changed = columns.take(np.arange(len(columns)))
    width, random = changed.numbers.shape[1], np.random.default_rng(1)
    for row, value in zip(range(len(changed) // 3), cycle(SPECIAL), strict=False):
        if width:
            changed.numbers[row, random.integers(width)] = value
    for place in range(changed.levels.shape[1]):
        rows = random.permutation(len(changed))[: len(TEXTS)]
        for row, text in zip(rows, islice(cycle(TEXTS), len(rows)), strict=True):
            changed.levels[row, place] = text
    return changed


def as_read(columns: Columns) -> Columns:
    """The rows as a file reader gives them: a coded level in its usual writing."""
    levels = columns.levels.copy()
    for column in columns.schema.categorical:
        place = columns.schema.position[column.name]
        stored = pa.chunked_array([pa.array(levels[:, place].tolist(), pa.string())])
        distinct, _ = as_levels(stored, column)
        levels[:, place] = np.array(distinct.levels, dtype=object).take(distinct.places)
    return Columns(columns.numbers, levels, columns.portfolio)


def check(database: DuckDB | PostgreSQL, model: StoredModel, columns: Columns) -> None:
    portfolio = model.scorer.artefact.portfolio
    dated = [column.name for column in portfolio.schema.numeric if column.kind == "date"]
    for name in dated:  # a database has days and nothing between them
        place = portfolio.schema.position[name]
        days = columns.numbers[:, place]
        columns.numbers[:, place] = np.where(np.isfinite(days) & (np.abs(days) < 1e6), np.rint(days), np.nan)
    expected = decisions_of(model, as_read(columns))
    found = agreement_of(decided(database, model, columns), expected)
    assert dict(found.different) == {}
    assert found.margin == 0
    assert found.probability <= 4e-16
    assert 0 < found.rejected < found.rows
    assert len(set(expected["decision"])) == 4  # with None of a rejected row


def test_home_credit_is_decided_alike_in_databases(database: DuckDB | PostgreSQL, small: StoredModel) -> None:
    check(database, small, with_extremes(drawn_for(small.scorer, 600, seed=2)))


@cache
def foreign(folder: Path) -> tuple[StoredModel, Columns]:
    portfolio = Portfolio.load(folder)
    open_ended = (column.name for column in portfolio.schema.categorical if not column.levels)
    levels = {name: [f"{number:05}" for number in range(300)] for name in open_ended}
    model = model_of(draw_legal(portfolio, 2_000, seed=1, vocabularies=levels), num_leaves=15)
    return model, with_extremes(draw_legal(portfolio, 500, seed=2, vocabularies=levels))


@pytest.mark.parametrize("folder", FOREIGN, ids=lambda folder: folder.name)
def test_foreign_portfolios_are_decided_alike_in_databases(database: DuckDB | PostgreSQL, folder: Path) -> None:
    check(database, *foreign(folder))


NUMBERS = Portfolio.of({
    "name": "numbers",
    "outcome": {"column": "late", "bad": 1, "good": 0},
    "columns": {
        "a": {"kind": "number"}, "b": {"kind": "number"}, "c": {"kind": "category", "levels": [*"pqrst"]},
    },
    "features": {"more": {"quotient": {"is": "a / b"}, "product": {"is": "a * b * a"}, "of c": {"is": 'c == "q"'}}},
})  # fmt: skip


def scattered(rows: int, seed: int) -> Columns:
    """Numbers around zero, zeros and missing values among them."""
    random = np.random.default_rng(seed)
    numbers = np.exp(random.normal(scale=30, size=(rows, 2))) * random.choice([-1, 0, 1, np.nan], size=(rows, 2))
    levels = random.choice(np.array([*"pqrst", None], dtype=object), size=(rows, 1))
    return Columns(numbers, levels, NUMBERS)


@pytest.mark.parametrize(
    "parameters",
    [
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 2},
        {"num_leaves": 400, "min_data_in_leaf": 2},
        {"max_cat_to_onehot": 1},
    ],
    ids=str,
)
def test_every_kind_of_split_and_any_number_of_leaves(
    database: DuckDB | PostgreSQL, parameters: dict[str, Any]
) -> None:
    model = model_of(scattered(1_000, seed=1), **parameters)
    rows = scattered(400, seed=2)
    expected = decisions_of(model, rows)
    found = agreement_of(decided(database, model, rows), expected)
    assert (dict(found.different), found.margin) == ({}, 0)


def test_a_tree_of_many_levels_is_cut_into_columns(database: DuckDB | PostgreSQL) -> None:
    # Each split takes one row from the end, so that the tree has as many levels as leaves.
    depth = 150
    base = model_of(scattered(300, seed=1), trees=1)
    head, found = base.scorer.artefact.model_text.split("\nTree=0\n")
    tail = found[found.index("end of trees") :]
    right = [*range(1, depth), -depth - 1]
    tree = {
        "num_leaves": depth + 1, "num_cat": 0,
        "split_feature": " ".join(["0"] * depth), "split_gain": " ".join(["1"] * depth),
        "threshold": " ".join(map(str, range(depth))), "decision_type": " ".join(["8"] * depth),
        "left_child": " ".join(str(-i - 1) for i in range(depth)), "right_child": " ".join(map(str, right)),
        "leaf_value": " ".join(str(0.01 * (i - 75)) for i in range(depth + 1)),
        "leaf_weight": " ".join(["1"] * (depth + 1)), "leaf_count": " ".join(["1"] * (depth + 1)),
        "internal_value": " ".join(["0"] * depth), "internal_weight": " ".join(["1"] * depth),
        "internal_count": " ".join(["1"] * depth), "is_linear": 0, "shrinkage": 1,
    }  # fmt: skip
    body = "Tree=0\n" + "".join(f"{name}={value}\n" for name, value in tree.items()) + "\n\n"
    text = re.sub(r"tree_sizes=\d+", f"tree_sizes={len(body)}", head) + f"\n{body}{tail}"
    model = StoredModel("deep", "1", Scorer(replace(base.scorer.artefact, model_text=text)))
    rows = scattered(200, seed=3)
    rows.numbers[:, 0] = np.arange(-10, 190) * 0.8
    found = agreement_of(decided(database, model, rows), decisions_of(model, rows))
    assert (dict(found.different), found.margin) == ({}, 0)
    assert (
        len(re.findall(r" AS n_\d+", statement(model, Target.of(NUMBERS, database.dialect, table="t")))) == depth // 30
    )


def hostile(names: list[str], levels: list[str]) -> Portfolio:
    kinds: dict[str, Any] = {names[0]: {"kind": "number"}, names[1]: {"kind": "number", "low": -5, "high": 5}}
    return Portfolio.of({
        "name": "hostile",
        "identity": {"column": names[3], "kind": "whole"},
        "outcome": {"column": "the outcome", "bad": 1, "good": 0},
        "columns": {**kinds, names[2]: {"kind": "category", "levels": levels}},
        "features": {"more": {"a feature '\"": {"is": "missing(" + repr(names[0]) + ")"}}},
    })  # fmt: skip


PIECES = st.sampled_from(
    ["'", '"', ";", "--", "/*", "*/", "\\", "$$", "%s", "{", ":a", "?", " ", "\n", "x_1", "é", "日", "\U0001d518", "A"]
)
TEXT = st.lists(PIECES | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5).map("".join)


@cache
def three_features() -> StoredModel:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(300, 2))
    levels = random.choice(np.array(["l0", "l1", "l2"], dtype=object), size=(300, 1))
    return model_of(Columns(numbers, levels, hostile(["a", "b", "c", "id"], ["l0", "l1", "l2"])), trees=3)


@settings(max_examples=15)
@given(
    names=st.lists(TEXT, min_size=4, max_size=4, unique_by=str.lower),
    levels=st.lists(TEXT.filter(lambda text: not text.isspace()), min_size=3, max_size=3, unique=True),
)
@pytest.mark.parametrize("dialect", list(Dialect))
def test_names_and_levels_of_any_characters(
    request: pytest.FixtureRequest, dialect: Dialect, names: list[str], levels: list[str]
) -> None:
    portfolio, base = hostile(names, levels), three_features().scorer.artefact
    state = FeatureState((*names[:3], "a feature '\""), {names[2]: tuple(levels)}, {}, portfolio)
    importance = dict(zip(state.names, base.reference.importance.values(), strict=True))
    bins = dict(zip(state.names, base.reference.features.values(), strict=True))
    policy = replace(base.policy, completeness=CompletenessRule(known=(names[2],), max_missing_share=0.3))
    artefact = replace(
        base, features=state, policy=policy, reference=replace(base.reference, features=bins, importance=importance)
    )
    model = StoredModel("a\nmodel", "1-'", Scorer(artefact))
    columns = draw_columns(portfolio, 60, seed=1, vocabularies={names[2]: [*levels, "l0"]})
    columns.numbers[::7, 1] = 9.0
    database = DuckDB() if dialect is Dialect.DUCKDB else PostgreSQL(request.getfixturevalue("postgresql"))
    with database:
        found = agreement_of(decided(database, model, columns), decisions_of(model, columns))
    assert (dict(found.different), found.margin) == ({}, 0)
    assert 0 < found.rejected < found.rows


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_same_model_gives_the_same_bytes(dialect: Dialect, small: StoredModel) -> None:
    target = Target.of(PORTFOLIO, dialect, table="lender.applications")
    text = statement(small, target)
    again = StoredModel(small.name, small.version, Scorer(small.scorer.artefact))
    assert statement(again, target) == text
    assert text.splitlines()[:4] == [
        f"-- Model: {small.name}:{small.version}",
        f"-- Digest: {small.scorer.artefact.digest}",
        "-- Portfolio: home_credit",
        f"-- Dialect: {dialect}",
    ]
    assert '\nFROM "lender"."applications" AS raw' in text


def test_the_table_has_the_declared_columns() -> None:
    nasty = Portfolio.load(next(folder for folder in FOREIGN if folder.name == "nasty"))
    lines = table_statement(nasty, Target.of(nasty, Dialect.DUCKDB, table="a")).splitlines()
    assert lines[:3] == ['CREATE TABLE "a" (', '  "client_id" text,', '  "json" double precision,']
    assert '  "größe; ""in cm""" double precision,' in lines
    assert '  "decided on" date,' in lines
    assert '  "postcode" text,' in lines


@pytest.mark.parametrize(
    ("first", "identifier", "dialect", "said"),
    [
        ("x" * 64, "id", Dialect.POSTGRESQL, "at most 63 bytes"),
        ("é" * 32, "id", Dialect.POSTGRESQL, "at most 63 bytes"),
        ("ctid", "id", Dialect.POSTGRESQL, "in every table"),
        ("B", "id", Dialect.DUCKDB, "duckdb cannot tell these columns apart: B, b"),
        ("a", "c", Dialect.POSTGRESQL, "postgresql cannot tell these columns apart: c"),
        ("a\0", "id", Dialect.DUCKDB, "NUL"),
        ("a", "", Dialect.DUCKDB, "it is empty"),
        ("a", "status", Dialect.DUCKDB, "the name of a result"),
    ],
)
def test_columns_that_a_database_cannot_have_are_refused(
    first: str, identifier: str, dialect: Dialect, said: str
) -> None:
    portfolio = hostile([first, "b", "c", "id"], ["p"])
    with pytest.raises(ExportError, match=said):
        Target.of(portfolio, dialect, table="applications", identifier=identifier)


def test_names_that_differ_in_case_are_two_columns_of_postgresql(postgresql: str) -> None:
    portfolio = hostile(["B", "b", "Ä", "ä"], ["p"])
    with PostgreSQL(postgresql) as database:
        database.run(table_statement(portfolio, Target.of(portfolio, Dialect.POSTGRESQL, table="cases")))
        database.run("DROP TABLE cases")


@pytest.mark.parametrize(
    "parameters", [{"linear_tree": True}, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}], ids=str
)
def test_linear_trees_and_random_forests_are_refused(parameters: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    model = model_of(Columns(random.normal(size=(300, 2)), np.full((300, 1), "p", dtype=object), NUMBERS), **parameters)
    with pytest.raises(ExportError, match=r"^linear trees and random forests cannot be exported"):
        statement(model, Target.of(NUMBERS, Dialect.DUCKDB, table="applications"))


@given(
    slope=st.floats(0.01, 100),
    intercept=st.floats(-50, 50),
    probability=st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_lowest_margin_reaches_the_probability_and_the_one_before_does_not(
    slope: float, intercept: float, probability: float
) -> None:
    calibration = Calibration(slope=slope, intercept=intercept)
    margin = lowest_margin(calibration, probability)
    if margin == -np.inf:
        assert calibration.probabilities(np.array([-1e6]))[0] >= probability
        return
    beside, place = np.empty(2_001), 1_000
    beside[place] = margin
    for step in range(1, 1_001):
        beside[place + step] = np.nextafter(beside[place + step - 1], np.inf)
        beside[place - step] = np.nextafter(beside[place - step + 1], -np.inf)
    reached = calibration.probabilities(beside) >= probability
    assert reached.tolist() == [False] * 1_000 + [True] * 1_001


def test_the_command_writes_the_statement_or_the_table(
    artefact: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact.write(tmp_path / f"small/1-{artefact.digest[:32]}")
    model = ["--model", str(tmp_path / f"small/1-{artefact.digest[:32]}")]
    output = tmp_path / "scorer.sql"
    assert main(["export", *model, "--sql", "duckdb", "--table", "book", "--output", str(output)]) == 0
    written = output.read_bytes()
    assert b'FROM "book" AS raw' in written
    assert main(["export", *model, "--sql", "duckdb", "--table", "book"]) == 0
    assert capsys.readouterr().out.encode() == written
    assert main(["export", *model, "--sql", "postgresql", "--create-table"]) == 0
    assert capsys.readouterr().out.startswith('CREATE TABLE "applications" (\n  "SK_ID_CURR" bigint,\n')
    assert main(["export", *model, "--sql", "duckdb", "--identifier", "AMT_CREDIT", "--output", str(output)]) == 1
    assert capsys.readouterr().err == "error: duckdb cannot tell these columns apart: AMT_CREDIT\n"
    assert output.read_bytes() == written


@needs("initdb")
def test_the_file_makes_a_view_by_the_client_of_postgresql(small: StoredModel, postgresql: str) -> None:
    target = Target.of(PORTFOLIO, Dialect.POSTGRESQL, table="viewed")
    script = f"{table_statement(PORTFOLIO, target)}CREATE VIEW decisions AS\n{statement(small, target)}"
    script += 'INSERT INTO viewed ("SK_ID_CURR", "AMT_CREDIT") VALUES (7, -1);\n'
    script += 'SELECT "SK_ID_CURR", status, margin, errors FROM decisions;\nDROP TABLE viewed CASCADE;\n'
    options = ["--quiet", "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
    done = subprocess.run(["psql", *options, postgresql], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "7|rejected||AMT_INCOME_TOTAL: is required; AMT_CREDIT: must be between 1 and 1000000000; "
        "NAME_CONTRACT_TYPE: is required\n"
    )
