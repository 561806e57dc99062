from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.decisions import Pool, generate
from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from decision_log.format import ClientHash
from features.files import open_file
from features.transformer import Columns, concatenate
from monitoring.settings import MonitoringSettings
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.home_credit import PORTFOLIO
from tests.server import ROOT


@pytest.fixture(scope="session")
def rules() -> MonitoringSettings:
    """The project's settings of monitoring."""
    return MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml")


@pytest.fixture(scope="session")
def scorer(stored: StoredModel) -> Scorer:
    return stored.scorer


@pytest.fixture(scope="session")
def population(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    """20,000 applications of the population that the model was fitted on, none of them the same."""
    folder = tmp_path_factory.mktemp("population") / "data"
    synthesize(folder, clients=20_000, seed=12, file_format="parquet", tables=APPLICATIONS)
    file: Path = folder / "application_train.parquet"
    return concatenate([batch.columns for batch in open_file(file, PORTFOLIO).batches(50_000)])


KEY = "0123456789abcdef" * 4


@pytest.fixture(scope="session")
def log(scorer: Scorer, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decision log of 3,000 decisions of clients 0, 1, 2, ..., with their outcomes beside it."""
    directory = tmp_path_factory.mktemp("decisions") / "log"
    pool = Pool.of(scorer, generated / "application_train.csv")
    generate(directory, pool, rows=3_000, client_hash=ClientHash(bytes.fromhex(KEY)), seed=4)
    return directory
