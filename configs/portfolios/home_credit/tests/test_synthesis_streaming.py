from __future__ import annotations

import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from configs.portfolios.home_credit.generator.dataset import synthesize, total_clients

SMALL_CHUNK = 400


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("configs.portfolios.home_credit.generator.population.CHUNK_CLIENTS", SMALL_CHUNK)


def peak_memory(directory: Path, clients: int) -> int:
    tracemalloc.start()
    synthesize(directory, clients=clients, seed=1, file_format="parquet")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.usefixtures("small_chunks")
def test_memory_does_not_grow_with_the_number_of_clients(tmp_path):
    peak_memory(tmp_path / "warm-up", 400)
    assert peak_memory(tmp_path / "long", 4_000) < 1.3 * peak_memory(tmp_path / "short", 800)


@pytest.mark.usefixtures("small_chunks")
def test_progress_adds_up_to_all_clients(tmp_path):
    finished: list[int] = []
    synthesize(tmp_path / "data", clients=1_000, seed=1, progress=finished.append)
    assert finished == [400, 400, 200, 160]
    assert sum(finished) == total_clients(1_000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_identifiers_go_on_from_chunk_to_chunk(generate, file_format):
    directory = generate(clients=1_000, file_format=file_format)
    read = pd.read_csv if file_format == "csv" else pd.read_parquet
    previous = read(directory / f"previous_application.{file_format}")
    bureau = read(directory / f"bureau.{file_format}")
    assert previous["SK_ID_PREV"].tolist() == list(range(1_000_001, 1_000_001 + len(previous)))
    assert bureau["SK_ID_BUREAU"].tolist() == list(range(5_000_001, 5_000_001 + len(bureau)))
