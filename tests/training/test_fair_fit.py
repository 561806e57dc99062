"""A fit that knows the protected groups of its rows: weights, a penalty, and a model that reads no group."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import yaml
from scipy.special import expit, logit

from features.transformer import Columns
from jobs.errors import SettingsError
from tests.features.examples import ROOT
from tests.training.planted import planted, settings_of
from training.cli import main
from training.dataset import Dataset
from training.errors import TrainingError
from training.fair_fit import FairFit, fair_fit
from training.fitting import fit_trees
from training.settings import ModelSettings, TrainingSettings


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, TrainingSettings]:
    return planted(tmp_path_factory.mktemp("planted"), clients=1_000)


def fitting(settings: TrainingSettings, **fairness: object) -> ModelSettings:
    return settings_of(settings, model={"fairness": fairness}).model


def test_nothing_is_asked_of_a_fit_by_default(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    assert fair_fit(dataset.columns, dataset.target, settings.model) is None
    assert TrainingSettings.load(ROOT / "configs" / "training.yaml").model.fairness.stated == ()


def test_weights_make_outcome_and_group_independent(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    fair = fair_fit(dataset.columns, dataset.target, fitting(settings, reweighing={"sex": 1.0}))
    assert fair is not None
    assert not fair.penalizes
    sex = dataset.columns.levels[:, 0]
    rates = {one: np.average(dataset.target[sex == one], weights=fair.weights[sex == one]) for one in "FM"}
    assert rates["F"] == pytest.approx(rates["M"])
    assert rates["F"] == pytest.approx(dataset.target.mean())
    assert fair.weights.mean() == pytest.approx(1.0)


def test_derivatives_are_those_of_the_loss(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    fair = fair_fit(dataset.columns, dataset.target, fitting(settings, reweighing={"sex": 0.5}, penalty={"sex": 2.0}))
    assert fair is not None
    margins, data = np.random.default_rng(0).normal(size=len(dataset)), lgb.Dataset(np.zeros((1, 1)))
    gradient, curvature = fair.gradients(margins, data)
    for row in (0, 1, 999):
        step = np.zeros(len(margins))
        step[row] = 1e-4
        change = fair.loss(margins + step, data)[1] - fair.loss(margins - step, data)[1]
        assert gradient[row] == pytest.approx(len(margins) * change / 2e-4, rel=1e-4)
    chance = expit(margins)
    assert (curvature > fair.weights * chance * (1 - chance)).all()


def gap(dataset: Dataset, booster: lgb.Booster, matrix: np.ndarray) -> float:
    margins, sex = booster.predict(matrix, raw_score=True), dataset.columns.levels[:, 0]
    return float(margins[sex == "F"].mean() - margins[sex == "M"].mean())


def test_a_penalty_closes_the_gap_and_keeps_the_level(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    matrix = np.column_stack(
        [dataset.columns.numbers[:, dataset.columns.schema.position[n]] for n in ("burden", "code")]
    )
    gaps = []
    for fairness in ({}, {"penalty": {"sex": 5.0}}):
        model = fitting(settings, **fairness)
        fair = fair_fit(dataset.columns, dataset.target, model)
        booster = fit_trees(matrix, dataset.target, (), model, names=("burden", "code"), trees=200, seed=1, fair=fair)
        gaps.append(gap(dataset, booster, matrix))
        assert expit(booster.predict(matrix, raw_score=True)).mean() == pytest.approx(dataset.target.mean(), abs=0.02)
        again = lgb.Booster(model_str=booster.model_to_string())
        assert (again.predict(matrix, raw_score=True) == booster.predict(matrix, raw_score=True)).all()
    assert gaps[0] > 0.5
    assert abs(gaps[1]) < gaps[0] / 3


def test_the_first_margin_is_the_log_odds_of_all_rows(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    fair = fair_fit(dataset.columns, dataset.target, fitting(settings, penalty={"sex": 1.0}))
    assert fair is not None
    assert fair.base == pytest.approx(logit(dataset.target.mean()))
    some = fair.take(np.array([3, 5]))
    assert isinstance(some, FairFit)
    assert (some.target == dataset.target[[3, 5]]).all()
    assert some.groups.shape == (2, 2)


def test_a_fit_by_blocks_knows_no_groups(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    model = fitting(settings, penalty={"sex": 1.0})
    with pytest.raises(TrainingError, match="by blocks"):
        fair_fit(object(), dataset.target, model)  # type: ignore[arg-type]
    assert isinstance(dataset.columns, Columns)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"fairness": {"penalty": {"age": 1.0}}}}, "model.fairness: no column states: age"),
        ({"features": {"left_out": ["absent"]}}, "features.left_out: must be of"),
        ({"features": {"left_out": ["burden", "strain", "code"]}}, "features.left_out: must leave a feature"),
        ({"policy": {"cutoff": 1.5}}, "policy.cutoff"),
    ],
)
def test_wrong_settings_are_one_line(
    small: tuple[Dataset, TrainingSettings], changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        settings_of(small[1], **changes)


def test_a_column_leaves_with_everything_that_reads_it(small: tuple[Dataset, TrainingSettings]) -> None:
    dataset, settings = small
    chosen = settings_of(settings, features={"left_out": ["code"]}).features.select(dataset.portfolio)
    assert [feature.name for feature in chosen] == ["burden", "strain"]
    assert [feature.name for feature in settings.features.select(dataset.portfolio)] == [
        "burden",
        "strain",
        "code",
        "code_twice",
    ]


def test_whole_settings_keep_what_the_portfolio_would_lay_over(
    small: tuple[Dataset, TrainingSettings], tmp_path: Path
) -> None:
    import yaml

    settings = settings_of(small[1], policy={"cost_fn": 7.0})
    values = settings.model_dump(mode="json")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
    assert TrainingSettings.load(tmp_path / "settings.yaml").policy.cost_fn == 3.0
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values | {"whole": True}))
    assert TrainingSettings.load(tmp_path / "settings.yaml").policy.cost_fn == 7.0


@pytest.mark.parametrize("command", ["tune", "experiments"])
def test_commands_whose_fits_read_no_group_refuse_settings_that_ask_for_it(
    small: tuple[Dataset, TrainingSettings], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings_of(small[1], model={"fairness": {"reweighing": {"sex": 1.0}}}).model_dump(mode="json")
    (tmp_path / "training.yaml").write_text(yaml.safe_dump({**asked, "whole": True}))
    missing = tmp_path / "none"  # the settings are refused before any data are read
    assert main([command, "--data", str(missing), "--settings", str(tmp_path / "training.yaml")]) == 1
    said = "error: model.fairness: states sex, and no fit of this command reads a group\n"
    assert capsys.readouterr().err == said
