"""Options a lender needs: directions, profiles, later applications."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.transformer import FeatureTransformer
from jobs.commandline import Progress
from jobs.errors import SettingsError
from monitoring.measures import auc
from scoring.scorer import Scorer
from tests.home_credit import PORTFOLIO
from training.dataset import Dataset, load_dataset, split_by_time
from training.errors import DataError
from training.experiments import EXPERIMENTS
from training.fitting import fit_state, fit_trees, margins_of
from training.run import deliver
from training.settings import OutOfTimeSettings, TrainingSettings
from training.trainer import train

DATE = OutOfTimeSettings(column="APPLIED", share=0.25)


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated, PORTFOLIO)


@pytest.fixture(scope="module")
def dated(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated applications, ten a day and in no order."""
    frame = pd.read_csv(generated / "application_train.csv")
    days = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(len(frame)) // 10, unit="D")
    folder = tmp_path_factory.mktemp("dated")
    dated = frame.copy().assign(APPLIED=days.strftime("%Y-%m-%d")).sample(frac=1, random_state=1)
    dated.to_csv(folder / "application_train.csv", index=False)
    return folder


def directed(settings: TrainingSettings, **directions: int) -> TrainingSettings:
    values = settings.model_dump(mode="json")
    values["model"]["monotone"] = directions
    return TrainingSettings.checked(values, Path("training.yaml"))


def margins_along(dataset: Dataset, settings: TrainingSettings, name: str) -> np.ndarray:
    """Margins of 100 applicants while one feature rises and nothing else changes, shape (100, 50)."""
    state = fit_state(dataset.columns, dataset.target, settings.features, settings.model, seed=1)
    transformer = FeatureTransformer(state)
    matrix = transformer.transform(dataset.columns)
    booster = fit_trees(
        matrix, dataset.target, transformer.categorical, settings.model, names=state.names, trees=60, seed=1
    )
    feature = state.names.index(name)
    steps = np.nanquantile(matrix[:, feature], np.linspace(0, 1, 50))
    rows = np.repeat(matrix[:100], 50, axis=0)
    rows[:, feature] = np.tile(steps, 100)
    return margins_of(booster, rows, threads=1).reshape(100, 50)


@pytest.mark.parametrize(("name", "direction"), [("DAYS_EMPLOYED", -1), ("EXT_SOURCE_3", 1)])
def test_the_pd_moves_in_the_direction_that_was_asked_for(
    dataset: Dataset, settings: TrainingSettings, name: str, direction: int
) -> None:
    """Against what the data say, so that a model without the direction would not."""
    free = margins_along(dataset, settings, name)
    held = margins_along(dataset, directed(settings, **{name: direction}), name)
    assert (np.diff(free) * direction < 0).any()
    assert (np.diff(held) * direction >= 0).all()


def test_the_price_of_directions_is_measured(dataset: Dataset, settings: TrainingSettings) -> None:
    wrong = directed(settings, EXT_SOURCE_2=1, EXT_SOURCE_3=1, ext_source_mean=1, ext_source_weighted_mean=1)
    price = train(dataset, wrong, Progress(quiet=True)).monotone_price
    assert price is not None
    assert price.low < price.value < price.high
    assert price.value > 0


@pytest.mark.parametrize("name", ["ORGANIZATION_TYPE", "nothing"])
def test_only_numeric_features_have_a_direction(settings: TrainingSettings, name: str) -> None:
    with pytest.raises(SettingsError, match=f"monotone: not numeric features: {name}"):
        directed(settings, **{name: 1})


def test_a_direction_is_down_or_up(settings: TrainingSettings) -> None:
    with pytest.raises(SettingsError, match=r"model\.monotone\.DAYS_EMPLOYED: "):
        directed(settings, DAYS_EMPLOYED=2)


def test_every_profile_and_the_directions_are_compared(dataset: Dataset, settings: TrainingSettings) -> None:
    fitted = EXPERIMENTS["options"].fit(dataset, settings, Progress(quiet=True))
    profiles = settings.experiments.options.profiles
    assert [one.name for one in fitted] == [*(f"{name} + lightgbm" for name in profiles), "monotone + lightgbm"]
    probabilities = [one.probabilities.tolist() for one in fitted]
    assert all(first != second for first, second in pairwise(probabilities))


def test_the_newest_applications_are_set_aside(dated: Path) -> None:
    dataset = load_dataset(dated, PORTFOLIO, dates="APPLIED")
    earlier, later = split_by_time(dataset, DATE)
    assert later is not None
    assert (len(earlier), len(later)) == (2250, 750)
    assert earlier.dates is not None
    assert later.dates is not None
    assert earlier.dates.max() < later.dates.min()
    assert "APPLIED" not in " ".join(dataset.warnings)


def test_without_dates_nothing_is_set_aside(dataset: Dataset) -> None:
    assert split_by_time(dataset, None) == (dataset, None)


def test_a_single_day_cannot_be_divided(dated: Path) -> None:
    dataset = load_dataset(dated, PORTFOLIO, dates="APPLIED")
    assert dataset.dates is not None
    one_day = dataset.take(np.flatnonzero(dataset.dates == dataset.dates[0]))
    with pytest.raises(DataError, match=r"APPLIED: no later part of 0\.25 of the rows holds both outcomes"):
        split_by_time(one_day, DATE)


def test_the_delivered_model_is_judged_on_later_applications(dated: Path, settings: TrainingSettings) -> None:
    _, later = split_by_time(load_dataset(dated, PORTFOLIO, dates="APPLIED"), DATE)
    assert later is not None
    tracking = settings.tracking.model_copy(update={"model": "later_model"})
    delivered = deliver(
        dated, settings.model_copy(update={"out_of_time": DATE, "tracking": tracking}), Progress(quiet=True)
    )
    trained = delivered.trained
    assert trained.later is not None
    assert (trained.evaluation.rows, delivered.verdict.rows) == (2250, 750)
    assert (delivered.verdict.challenger.fitted_on, delivered.verdict.challenger.probability.shape) == (0, (750,))
    probabilities = Scorer(trained.artefact({})).score(later.columns).probability
    assert trained.later["auc"].value == auc(later.target, probabilities)
    assert trained.metrics()["out_of_time"]["rows"] == 750


@pytest.mark.parametrize(
    ("dates", "message"), [("soon", "must be dates, as in 2026-01-31"), (None, "must be present in every row")]
)
def test_a_column_that_holds_no_dates_is_refused(dated: Path, tmp_path: Path, dates: str | None, message: str) -> None:
    frame = pd.read_csv(dated / "application_train.csv")
    frame.loc[3, "APPLIED"] = dates
    frame.to_csv(tmp_path / "application_train.csv", index=False)
    with pytest.raises(DataError, match=f"APPLIED: {message}"):
        load_dataset(tmp_path, PORTFOLIO, dates="APPLIED")
