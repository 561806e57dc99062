from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_same_arguments_give_the_same_bytes(generate, file_format):
    first, second = (digests(generate(name, file_format=file_format)) for name in ("first", "second"))
    assert first == second


def test_another_seed_gives_other_data_in_every_file(generate):
    first, second = digests(generate("first", seed=1)), digests(generate("second", seed=2))
    assert [name for name in first if first[name] == second[name]] == []


def test_application_rows_do_not_depend_on_the_other_tables(generate):
    everything, applications = digests(generate("all")), digests(generate("some", tables=APPLICATIONS))
    assert applications == {name: everything[name] for name in applications}


def test_chunks_differ(generate, monkeypatch):
    monkeypatch.setattr("configs.portfolios.home_credit.generator.population.CHUNK_CLIENTS", 100)
    lines = (generate(clients=200, tables=APPLICATIONS) / "application_train.csv").read_text().splitlines()[1:]
    rows = [line.split(",", 2)[2] for line in lines]
    assert len(set(rows)) == 200
