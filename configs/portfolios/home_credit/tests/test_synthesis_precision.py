from __future__ import annotations

import csv
from pathlib import Path

import pytest

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS
from tests.home_credit import APPLICATION


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The text of every application column as it is in the CSV file, without missing values."""
    from configs.portfolios.home_credit.generator.dataset import synthesize

    directory: Path = tmp_path_factory.mktemp("precision") / "data"
    synthesize(directory, clients=2_000, seed=1, tables=APPLICATIONS)
    with (directory / "application_train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows if row[name]] for name in rows[0]}


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


@pytest.mark.parametrize("column", [column.name for column in APPLICATION.stated if column.whole])
def test_whole_numbers_are_written_without_a_point(fields, column):
    assert [text for text in fields[column] if not text.removeprefix("-").isdigit()] == []
    assert "-0" not in fields[column]


@pytest.mark.parametrize("column", ["AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "AMT_GOODS_PRICE"])
def test_amounts_are_multiples_of_a_half(fields, column):
    assert [text for text in fields[column] if float(text) * 2 % 1 != 0] == []


@pytest.mark.parametrize(
    "column",
    [
        column.name
        for column in APPLICATION.stated
        if column.numeric and column.name.endswith(("_AVG", "_MODE", "_MEDI"))
    ],
)
def test_building_shares_have_four_decimals(fields, column):
    assert max(map(decimals, fields[column])) <= 4


@pytest.mark.parametrize("column", ["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"])
def test_external_scores_keep_full_precision(fields, column):
    assert sorted(map(decimals, fields[column]))[len(fields[column]) // 2] >= 14


def test_region_population_has_six_decimals(fields):
    assert max(map(decimals, fields["REGION_POPULATION_RELATIVE"])) <= 6
