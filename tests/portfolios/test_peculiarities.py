"""What single portfolios are there for: codes, groups, names, decimal commas and many levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.drawing import draw_columns, draw_legal, records_of
from features.errors import SchemaError
from features.files import open_file
from features.fitting import fit_features
from features.portfolio import Portfolio
from features.schema import ColumnKind
from features.transformer import Columns, FeatureTransformer
from jobs.errors import SettingsError
from tests.portfolios.samples import LEVELS, drawn, write_csv
from training.dataset import load_dataset, outcomes, split_by_time
from training.gates import members
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Portfolio:
    return Portfolio.load(Path(__file__).parent / name)


def columns_of(portfolio: Portfolio, **stated: list[float | str | None]) -> Columns:
    """Rows that state these columns alone."""
    rows = max(map(len, stated.values()))
    numbers = np.full((rows, len(portfolio.schema.numeric)), np.nan)
    levels = np.full((rows, len(portfolio.schema.categorical)), None, dtype=object)
    for name, values in stated.items():
        held = numbers if portfolio.schema[name].numeric else levels
        held[:, portfolio.schema.position[name]] = values
    return Columns(numbers, levels, portfolio)


def matrix_of(columns: Columns, *names: str) -> list[list[float]]:
    """These features of the rows, by a state that keeps every feature and every level of them."""
    settings = TrainingSettings.load(ROOT / "configs" / "training.yaml", columns.portfolio.folder).features
    filters = settings.filters.model_copy(update={"constant": None})
    kept = {"without": (), "category_min_count": 1, "clip": None, "filters": filters}
    state = fit_features(columns, settings.model_copy(update=kept), importance=lambda *_: np.empty(0))
    transformer = FeatureTransformer(state)
    return transformer.transform(columns)[:, [transformer.names.index(name) for name in names]].tolist()


def test_both_codes_of_a_column_are_missing():
    late = columns_of(load("gmsc_like"), late90=[96.0, 98.0, 97.0, 3.0], lines=[1.0] * 4)
    assert matrix_of(late, "late is a code") == [[1.0], [1.0], [0.0], [0.0]]


def test_two_protected_attributes_are_read_from_one_column():
    columns = columns_of(load("german_like"), **{"status and sex": ["female : single", "male : divorced", None, "?"]})
    sex, status = members(columns, "sex"), members(columns, "marital_status")
    assert {name: rows.tolist() for name, rows in sex.items()} == {
        "female": [True, False, False, False],
        "male": [False, True, False, False],
    }
    assert {name: rows.tolist() for name, rows in status.items()} == {
        "single": [True, False, False, False],
        "not single": [False, True, False, False],
    }


def test_a_protected_flag_has_the_groups_0_and_1():
    found = members(columns_of(load("nasty"), group=[0.0, 1.0, np.nan]), "disability")
    assert list(found) == ["0", "1"]
    assert [rows.tolist() for rows in found.values()] == [[True, False, False], [False, True, False]]


@pytest.mark.parametrize(
    ("portfolio", "values", "expected"),
    [
        ("german_like", ["good", "bad", " good", None, "ugly"], [0.0, 1.0, 0.0, np.nan, np.nan]),
        ("nasty", ["0", "1", "2.0", "written off", "3", ""], [0.0, 1.0, 1.0, 1.0, np.nan, np.nan]),
        ("nasty", [0, 1, 2, 3], [0.0, 1.0, 1.0, np.nan]),
        ("gmsc_like", [True, False], [1.0, 0.0]),
    ],
)
def test_outcomes_are_what_the_portfolio_says(portfolio, values, expected):
    found = outcomes(pa.chunked_array([values]), load(portfolio).declared.outcome)
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("stated", [1, [1], "1", ["1"]])
def test_outcomes_may_be_stated_as_numbers(stated):
    document = {"name": "a", "outcome": {"column": "y", "bad": stated, "good": [0, "paid"]}}
    declared = Portfolio.of(document | {"columns": {"x": {"kind": "number"}}}).declared.outcome
    assert (declared.bad, declared.good) == (("1",), ("0", "paid"))


def out_of_time(folder: Path, tmp_path: Path) -> TrainingSettings:
    text = (
        (folder / "portfolio.yaml")
        .read_text(encoding="utf-8")
        .replace("training:", "training:\n  out_of_time: {share: 0.2}")
    )
    (tmp_path / "portfolio.yaml").write_text(text, encoding="utf-8")
    return TrainingSettings.load(ROOT / "configs" / "training.yaml", tmp_path)


def test_the_newest_applications_are_set_aside_by_the_declared_day(tmp_path):
    portfolio = load("nasty")
    settings = out_of_time(portfolio.folder, tmp_path)
    columns = drawn(portfolio, 400)
    target = [str(row % 2) for row in range(400)]
    others = {"model_config": target, "": [f"{row}" for row in range(400)]}
    write_csv(tmp_path / "Anträge 2025.csv", portfolio, records_of(columns), **others)
    dataset = load_dataset(tmp_path, portfolio, dates=settings.out_of_time.column)
    earlier, later = split_by_time(dataset, settings.out_of_time)
    days = columns.numbers[:, portfolio.schema.position["decided on"]]
    assert len(earlier) + len(later) == 400
    assert days[later.ids.astype(int)].min() > days[earlier.ids.astype(int)].max()


def test_without_a_declared_day_the_column_must_be_named(tmp_path):
    with pytest.raises(
        SettingsError, match=r"out_of_time\.column: must name a date, since gmsc-like has no decided_on"
    ):
        out_of_time(load("gmsc_like").folder, tmp_path)


def test_an_identity_may_be_the_column_without_a_name(tmp_path):
    portfolio = load("nasty")
    rows = records_of(drawn(portfolio, 4))
    others = {"model_config": ["0", "1", "written off", "0"], "": ["a", "b", "c", "d"]}
    write_csv(tmp_path / "Anträge 2025.csv", portfolio, rows, **others)
    dataset = load_dataset(tmp_path, portfolio)
    assert (dataset.ids.tolist(), dataset.target.tolist()) == (["a", "b", "c", "d"], [0, 1, 1, 0])


@pytest.mark.parametrize(("text", "read"), [("1,5", 1.5), ("-1000,5", -1000.5), ("3", 3.0), ("1e2", 100.0)])
def test_a_decimal_comma_is_read_and_a_point_is_not(tmp_path, text, read):
    portfolio = load("nasty")
    [row] = records_of(drawn(portfolio, 1))
    for stated, violations in ((text, []), ("1.000", ["json"])):
        write_csv(tmp_path / "a.csv", portfolio, [row | {"json": stated}])
        [batch] = open_file(tmp_path / "a.csv", portfolio).batches(9)
        assert [violation.column for violation in batch.violations] == violations
        if not violations:
            assert batch.columns.numbers[0, portfolio.schema.position["json"]] == read


def test_a_file_with_another_separator_than_the_declared_one_is_refused(tmp_path):
    portfolio = load("gmsc_like")
    rows = records_of(drawn(portfolio, 2))
    path = write_csv(tmp_path / "a.csv", portfolio, rows)
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    with pytest.raises(Exception, match=r"is ';' its separator\? A comma separates columns$"):
        open_file(path, portfolio)


def test_a_category_of_5000_levels_keeps_them_all_and_codes_them():
    portfolio = load("nasty")
    columns = drawn(portfolio, 4 * LEVELS)
    place = portfolio.schema.position["postcode"]
    columns.levels[:, place] = [f"{number % LEVELS:05}" for number in range(4 * LEVELS)]
    [first, last] = [matrix_of(columns, "postcode")[row] for row in (0, LEVELS - 1)]
    assert (first, last) == ([0.0], [LEVELS - 1.0])


def test_the_days_between_two_dates_are_a_feature_and_the_dates_are_none():
    portfolio = load("nasty")
    dates = {"decided on": [16_802.0, 16_802.0], "first loan": [16_800.0, np.nan]}
    assert matrix_of(columns_of(portfolio, **dates), "days_known", "never_borrowed")[0] == [2.0, 0.0]
    assert not {"decided on", "first loan"} & portfolio.features.keys()


@pytest.mark.parametrize("name", ["gmsc_like", "german_like", "nasty"])
@pytest.mark.parametrize("draw", [draw_columns, draw_legal])
def test_dates_without_bounds_are_drawn_as_dates(name, draw):
    portfolio = load(name)
    for column in portfolio.schema.numeric:
        if column.kind is ColumnKind.DATE:
            days = draw(portfolio, 300, seed=2).numbers[:, portfolio.schema.position[column.name]]
            assert np.nanmin(days) >= -25_567  # 1900-01-01
            assert np.nanmax(days) <= 47_482  # 2100-01-01


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("class == 1", 'is no formula at character 1 (a name such as "a b" or "class" needs quotes)'),
        ('"decided on" + 1', "reads the date decided on: only days(later, earlier) and missing() take dates"),
        ("postcode + 1", 'reads the category postcode: compare it with a level, as in postcode == "A"'),
        ("json.real", "cannot read json.real at character 1"),
    ],
)
def test_a_formula_that_cannot_be_read_names_itself(formula, said):
    portfolio = load("nasty")
    document = portfolio.declared.model_dump(mode="json", by_alias=True)
    document["features"] = {"more": {"wrong": {"is": formula}}}
    with pytest.raises(SchemaError) as refused:
        Portfolio.of(document)
    assert str(refused.value) == f"features.more.wrong: {said}"
