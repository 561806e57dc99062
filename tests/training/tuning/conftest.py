"""What every test of the search needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.home_credit import PORTFOLIO
from tests.training.tuning.searches import changed
from training.dataset import Dataset, load_dataset
from training.settings import TrainingSettings


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated, PORTFOLIO)


@pytest.fixture
def searching(settings: TrainingSettings, tmp_path: Path) -> TrainingSettings:
    """The tests' settings with a small search in a database of its own."""
    return changed(settings, storage=f"sqlite:///{tmp_path}/optuna/optuna.db")
