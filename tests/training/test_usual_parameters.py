"""Parameters of the trees that nobody states follow the data; those that are stated win."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.drawing import draw_legal
from features.portfolio import Portfolio
from tests.without_home_credit import HERE
from training.dataset import Dataset
from training.fitting import fitted_to, parameters_line, usual_parameters
from training.search_settings import TreeParameters
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]

HOME_CREDIT = {
    "learning_rate": 0.015, "num_leaves": 8, "max_depth": 3, "min_child_samples": 25, "colsample_bytree": 0.1,
    "reg_alpha": 5.0, "reg_lambda": 1.0, "min_data_per_group": 100, "cat_smooth": 100.0, "cat_l2": 50.0,
    "max_cat_threshold": 8,
}  # fmt: skip


@pytest.mark.skipif(not HERE, reason="Home Credit's portfolio is deleted: `git checkout configs/portfolios` brings it")
def test_home_credit_keeps_its_own_parameters():
    settings = TrainingSettings.load(ROOT / "configs" / "training.yaml")
    assert settings.model.parameters.stated() == HOME_CREDIT
    assert settings.model.parameters.over(usual_parameters(2_768, 150)) == settings.model.parameters


@pytest.mark.parametrize(
    ("outcomes", "leaves", "depth", "penalty"), [(300, 8, 3, 5.0), (4_999, 8, 3, 5.0), (5_000, 16, 6, 1.0)]
)
def test_few_outcomes_get_small_trees(outcomes, leaves, depth, penalty):
    chosen = usual_parameters(outcomes, 20)
    assert (chosen.num_leaves, chosen.max_depth, chosen.reg_alpha) == (leaves, depth, penalty)


@pytest.mark.parametrize(("features", "share"), [(1, 1.0), (4, 1.0), (16, 0.5), (100, 0.2), (400, 0.1)])
def test_a_tree_is_offered_twice_the_root_of_the_features(features, share):
    assert usual_parameters(10_000, features).colsample_bytree == share


@pytest.fixture
def narrow(tmp_path: Path) -> tuple[Dataset, TrainingSettings]:
    """Ten rows of a portfolio of one number, whose settings state two parameters."""
    (tmp_path / "portfolio.yaml").write_text(
        "name: narrow\n"
        'outcome: {column: bad, bad: ["1"], good: ["0"]}\n'
        "columns: {income: {kind: number, low: 0, high: 10}}\n"
        "training: {model: {parameters: {learning_rate: 0.2, num_leaves: null}}}\n"
    )
    settings = TrainingSettings.load(ROOT / "configs" / "training.yaml", tmp_path)
    columns = draw_legal(Portfolio.load(tmp_path), 10, seed=1)
    target = (columns.numbers[:, 0] > 5).astype("int64")
    return Dataset(columns.numbers[:, 0], columns, target, "", "narrow.csv"), settings


def test_stated_parameters_win_and_null_ones_follow_the_data(narrow):
    used = fitted_to(*narrow).model.parameters
    assert (used.learning_rate, used.num_leaves, used.colsample_bytree) == (0.2, 8, 1.0)
    assert fitted_to(narrow[0], fitted_to(*narrow)).model.parameters == used


def test_a_line_says_what_was_chosen_and_why(narrow):
    dataset, settings = narrow
    rarer = min(dataset.target.sum(), 10 - dataset.target.sum())
    line = parameters_line(dataset, settings)
    said = f"parameters of the trees for {rarer} rows of the rarer outcome and 1 features: num_leaves 8,"
    assert line.startswith(said)
    assert "learning_rate" not in line


def test_nothing_is_chosen_where_all_is_stated(narrow):
    assert parameters_line(narrow[0], fitted_to(*narrow)) == "parameters of the trees: all stated in the settings"


def test_a_parameter_without_a_rule_stays_with_lightgbm():
    assert TreeParameters().over(usual_parameters(300, 20)).max_bin is None
