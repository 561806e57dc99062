from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.portfolios.home_credit.generator.dataset import ALL, APPLICATIONS, synthesize
from training.generation import FileFormat, Tables

Generate = Callable[..., Path]


@pytest.fixture
def generate(tmp_path: Path) -> Generate:
    """Writes a small data set into a new directory of the given name and returns the directory."""

    def write(
        name: str = "data",
        *,
        clients: int = 300,
        seed: int = 1,
        file_format: FileFormat = "csv",
        tables: Tables = ALL,
    ) -> Path:
        synthesize(tmp_path / name, clients=clients, seed=seed, file_format=file_format, tables=tables)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application files of 100,000 clients and 16,000 later ones."""
    directory = tmp_path_factory.mktemp("synthesis") / "many"
    synthesize(directory, clients=100_000, seed=11, file_format="parquet", tables=APPLICATIONS)
    return directory


@pytest.fixture(scope="session")
def train(many: Path) -> pd.DataFrame:
    return pd.read_parquet(many / "application_train.parquet")


@pytest.fixture(scope="session")
def test(many: Path) -> pd.DataFrame:
    return pd.read_parquet(many / "application_test.parquet")


@pytest.fixture(scope="session")
def true_pd(many: Path) -> pd.Series:
    """TRUE_PD of every client of `train` and `test`, by SK_ID_CURR."""
    return pd.read_parquet(many / "true_pd.parquet").set_index("SK_ID_CURR")["TRUE_PD"]


@pytest.fixture(scope="session")
def histories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """All tables of 6,000 clients and 960 later ones, by name."""
    directory = tmp_path_factory.mktemp("synthesis") / "histories"
    synthesize(directory, clients=6_000, seed=12, file_format="parquet")
    return {path.stem: pd.read_parquet(path) for path in sorted(directory.iterdir())}
