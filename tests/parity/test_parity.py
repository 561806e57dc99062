"""One model, one probability, bit for bit, on every way to a score and in batches of any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from credit_scoring_client.client import Client
from numpy.typing import NDArray

from features.files import open_file
from features.transformer import Columns
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.home_credit import APPLICATION, PORTFOLIO
from tests.scoring.jobs import score_files
from tests.server import Server
from training.run import Delivered

ROWS = 1_000
Probabilities = NDArray[np.float64]
Application = dict[str, Any]


@pytest.fixture(scope="module")
def file(generated: Path) -> Path:
    """Raw applications that the model was not trained on."""
    sample = generated.parent / "parity" / "applications.csv"
    sample.parent.mkdir()
    train = pd.read_csv(generated / "application_train.csv", dtype=str, keep_default_na=False)
    test = pd.read_csv(generated / "application_test.csv", dtype=str, keep_default_na=False)
    pd.concat([test, train])[list(test.columns)][:ROWS].to_csv(sample, index=False)
    return sample


@pytest.fixture(scope="module")
def columns(file: Path) -> Columns:
    (batch,) = open_file(file, PORTFOLIO).batches(ROWS)
    return batch.columns


@pytest.fixture(scope="module")
def applications(file: Path) -> list[Application]:
    """The rows as a caller would send them."""
    frame = pd.read_csv(file, dtype={column.name: float for column in APPLICATION.numeric}, keep_default_na=True)
    names = [column.name for column in APPLICATION.stated]
    return [
        {name: None if pd.isna(value) else value for name, value in zip(names, row, strict=True)}
        for row in frame[names].itertuples(index=False)
    ]


@pytest.fixture(scope="module")
def trained(delivered: Delivered, columns: Columns) -> Probabilities:
    """What the model says that is still in the memory of the process that trained it."""
    return Scorer(delivered.trained.artefact({})).score(columns).probability


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


def assert_same(found: Any, expected: Probabilities) -> None:
    np.testing.assert_array_equal(np.asarray(found, dtype=np.float64), expected, strict=True)


def test_the_sample_tells_applicants_apart(trained: Probabilities) -> None:
    assert len(trained) == ROWS
    assert len(np.unique(trained)) > 0.95 * ROWS


@pytest.mark.parametrize("size", [1, 7, ROWS])
def test_stored_model(stored: StoredModel, columns: Columns, trained: Probabilities, size: int) -> None:
    parts = [stored.scorer.score(columns.take(slice(i, i + size))).probability for i in range(0, ROWS, size)]
    assert_same(np.concatenate(parts), trained)


@pytest.mark.parametrize("size", [7, ROWS])
def test_registered_pyfunc(delivered: Delivered, file: Path, trained: Probabilities, size: int) -> None:
    model = mlflow.pyfunc.load_model(delivered.registered.uri)
    frame = pd.read_csv(file)
    parts = [model.predict(frame[i : i + size])["probability"].to_numpy() for i in range(0, ROWS, size)]
    assert_same(np.concatenate(parts), trained)


def test_predict_proba(delivered: Delivered, file: Path, trained: Probabilities) -> None:
    model = mlflow.pyfunc.load_model(delivered.registered.uri).unwrap_python_model()
    probabilities = model.predict_proba(pd.read_csv(file))
    assert_same(probabilities[:, 1], trained)
    assert_same(probabilities[:, 0], 1 - trained)


def test_single_requests(client: Client, applications: list[Application], trained: Probabilities) -> None:
    assert_same([client.predict(application).probability for application in applications], trained)


@pytest.mark.parametrize("size", [1, 7, ROWS])
def test_batch_requests(client: Client, applications: list[Application], trained: Probabilities, size: int) -> None:
    chosen = applications if size > 1 else applications[:100]
    found = [
        decision.probability
        for i in range(0, len(chosen), size)
        for decision in client.predict_batch(chosen[i : i + size]).results
    ]
    assert_same(found, trained[: len(chosen)])


def test_feature_vectors(client: Client, stored: StoredModel, columns: Columns, trained: Probabilities) -> None:
    matrix = stored.scorer.transformer.transform(columns)
    vectors = [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]
    assert_same([client.predict_features(vector).probability for vector in vectors], trained)


@pytest.mark.parametrize("size", [7, ROWS])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_batch_job(
    stored: StoredModel, file: Path, trained: Probabilities, tmp_path: Path, size: int, suffix: str
) -> None:
    source = file if suffix == ".csv" else tmp_path / "applications.parquet"
    if suffix == ".parquet":
        pd.read_csv(file).to_parquet(source)
    score_files(source, tmp_path / "out", stored, chunk_rows=size)
    scored = pd.read_parquet(tmp_path / "out")
    assert_same(scored["probability"].to_numpy(), trained)
    assert scored["SK_ID_CURR"].tolist() == pd.read_csv(file)["SK_ID_CURR"].tolist()
