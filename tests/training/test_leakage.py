"""Leaks that are planted are found; what real data look like is not taken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from features.files import open_file
from jobs.commandline import Progress
from tests.home_credit import PORTFOLIO
from training.cli import main
from training.dataset import Dataset, load_dataset, outside_leaks, ranking, refuse_leaks
from training.errors import DataError
from training.run import load
from training.settings import TrainingSettings

Edit = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


@pytest.fixture(scope="module")
def frame(generated: Path) -> pd.DataFrame:
    return pd.read_csv(generated / "application_train.csv")


def planted(folder: Path, frame: pd.DataFrame, edit: Edit) -> Path:
    edit(frame.copy(), np.random.default_rng(1)).to_csv(folder / "application_train.csv", index=False)
    return folder


def noisy_copy(column: str, flipped: float) -> Edit:
    """The outcome, wrong in some rows, in place of a declared column."""

    def edit(frame: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
        wrong = random.random(len(frame)) < flipped
        return frame.assign(**{column: np.where(wrong, 1 - frame["TARGET"], frame["TARGET"])})

    return edit


def missing_where_default(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return frame.assign(OWN_CAR_AGE=frame["OWN_CAR_AGE"].fillna(5).where(frame["TARGET"] == 0))


def level_where_default(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return frame.assign(NAME_HOUSING_TYPE=np.where(frame["TARGET"] == 1, "Office apartment", "With parents"))


@pytest.mark.parametrize(
    ("edit", "column"),
    [
        (noisy_copy("FLAG_EMAIL", 0.0), "FLAG_EMAIL"),
        (noisy_copy("FLAG_EMAIL", 0.15), "FLAG_EMAIL"),
        (missing_where_default, "OWN_CAR_AGE"),
        (level_where_default, "NAME_HOUSING_TYPE"),
    ],
    ids=["copy", "noisy copy", "missing values", "category"],
)
def test_a_declared_column_that_knows_the_outcome_is_refused(
    tmp_path: Path, frame: pd.DataFrame, settings: TrainingSettings, edit: Edit, column: str
) -> None:
    with pytest.raises(DataError, match=rf"leaks the outcome: {column} alone ranks the outcome with AUC 0\.|1\.") as no:
        load(planted(tmp_path, frame, edit), settings, Progress(quiet=True))
    assert str(no.value).count("alone ranks") == 1


def test_a_declared_column_from_the_future_is_refused_by_its_bounds(
    tmp_path: Path, frame: pd.DataFrame, settings: TrainingSettings
) -> None:
    def days_after(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
        return frame.assign(DAYS_LAST_PHONE_CHANGE=np.where(frame["TARGET"] == 1, 90, -10))

    with pytest.raises(DataError, match="DAYS_LAST_PHONE_CHANGE: must be between -43830 and 0"):
        load(planted(tmp_path, frame, days_after), settings, Progress(quiet=True))


def test_a_column_from_the_future_that_is_not_declared_is_ignored_and_named(
    tmp_path: Path, frame: pd.DataFrame, settings: TrainingSettings
) -> None:
    def late_payments(frame: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
        return frame.assign(DAYS_LATE=frame["TARGET"] * 30 + random.integers(0, 10, len(frame)))

    dataset = load(planted(tmp_path, frame, late_payments), settings, Progress(quiet=True))
    (line,) = [line for line in dataset.warnings if line.startswith("DAYS_LATE ranks")]
    assert line.endswith("it is not declared and was ignored; do not declare it")


def test_identifiers_and_rows_in_the_order_of_the_outcome_are_named(
    tmp_path: Path, frame: pd.DataFrame, settings: TrainingSettings
) -> None:
    def ordered(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
        return frame.sort_values("TARGET", kind="stable").assign(SK_ID_CURR=range(200_000, 200_000 + len(frame)))

    dataset = load(planted(tmp_path, frame, ordered), settings, Progress(quiet=True))
    found = [line.partition(" ranks")[0] for line in dataset.warnings if "not in random order" in line]
    assert found == ["SK_ID_CURR", "the order of the rows"]


def test_generated_data_do_not_leak(generated: Path, settings: TrainingSettings) -> None:
    dataset = load_dataset(generated, PORTFOLIO)
    refuse_leaks(dataset, settings.leakage)
    file = open_file(generated / "application_train.csv", PORTFOLIO)
    assert list(outside_leaks(dataset, file, settings.leakage)) == []


def test_a_leak_ends_the_command_with_one_line(
    tmp_path: Path, frame: pd.DataFrame, settings: TrainingSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planted(tmp_path, frame, noisy_copy("FLAG_EMAIL", 0.1))
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    assert main(["run", "--data", str(folder), "--settings", str(path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: application_train.csv leaks the outcome: FLAG_EMAIL alone ranks the outcome")
    assert last.endswith("above leakage.max_column_auc 0.75")


def test_levels_of_two_rows_each_are_no_leak(generated: Path, settings: TrainingSettings) -> None:
    """Their default rates tell the outcome of the rows that they were taken from, and of no other."""
    dataset = load_dataset(generated, PORTFOLIO)
    rare = np.random.default_rng(3).permutation(len(dataset)) // 2
    levels = dataset.columns.levels.copy()
    levels[:, 0] = [f"level {i}" for i in rare]
    columns = type(dataset.columns)(dataset.columns.numbers, levels, PORTFOLIO)
    refuse_leaks(replace(dataset, columns=columns), settings.leakage)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1.0),
        ([4.0, 3.0, 2.0, 1.0], 1.0),
        ([1.0, 1.0, 1.0, 1.0], 0.5),
        ([5.0, 5.0, np.nan, np.nan], 1.0),
        ([np.nan, 1.0, np.nan, 2.0], 0.625),
    ],
)
def test_the_ranking_of_a_column_takes_its_better_direction(values: list[float], expected: float) -> None:
    assert ranking(np.array(values), np.array([0, 0, 1, 1]), 0.95).value == expected


def test_the_limit_is_held_against_the_lower_end_of_the_interval(generated: Path, settings: TrainingSettings) -> None:
    dataset: Dataset = load_dataset(generated, PORTFOLIO)
    column = dataset.columns.numbers.copy()
    area = ranking(column[:, 0], dataset.target, 0.99)
    assert area.low < area.value
    strict = settings.leakage.model_copy(update={"max_column_auc": 0.52})
    with pytest.raises(DataError, match="EXT_SOURCE_2 alone ranks"):
        refuse_leaks(dataset, strict)
