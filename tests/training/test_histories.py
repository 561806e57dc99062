"""Training with histories: in memory and in blocks, of all tables or some, and what a model reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.commandline import Progress
from tests.server import ROOT
from training.blocks import read_source, reads_histories, store_parts, with_histories
from training.dataset import Dataset, load_dataset
from training.generation import generator_of
from training.settings import TrainingSettings
from training.trainer import train

QUIET = Progress(quiet=True)
CLIENTS = 1_500


@pytest.fixture(scope="module")
def settings() -> TrainingSettings:
    loaded = TrainingSettings.load(ROOT / "configs" / "training.yaml")
    values = loaded.model_dump(mode="json")
    values["model"] |= {"folds": 2, "max_trees": 40}
    values["model"]["parameters"] |= {"learning_rate": 0.1, "colsample_bytree": 1.0}
    values["evaluation"]["resamples"] = 20
    return TrainingSettings.model_validate(values)


@pytest.fixture(scope="module")
def data(settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "all"
    generator_of(settings.declared).synthesize(folder, clients=CLIENTS, seed=3, file_format="parquet", tables="all")
    return folder


def loaded(data: Path, settings: TrainingSettings) -> Dataset:
    return with_histories(load_dataset(data, settings.declared), data, settings, QUIET)


def rolled_up(dataset: Dataset) -> np.ndarray:
    return dataset.columns.numbers[:, -len(dataset.portfolio.schema.rolled_up) :]


def test_every_application_has_the_roll_ups_of_its_client(data: Path, settings: TrainingSettings) -> None:
    dataset = loaded(data, settings)
    assert dataset.warnings == load_dataset(data, settings.declared).warnings
    assert dataset.fingerprint != load_dataset(data, settings.declared).fingerprint
    known = ~np.isnan(rolled_up(dataset))
    assert known.any(axis=0).all()
    order = np.random.default_rng(0).permutation(len(dataset))
    shuffled = load_dataset(data, settings.declared).take(order)
    assert rolled_up(with_histories(shuffled, data, settings, QUIET)).tobytes() == rolled_up(dataset)[order].tobytes()


def test_in_blocks_the_roll_ups_are_the_same(data: Path, settings: TrainingSettings, tmp_path: Path) -> None:
    stored = store_parts(read_source(data, settings.declared), data, settings.declared, tmp_path)
    filled = with_histories(stored, data, settings, QUIET)
    whole = loaded(data, settings)
    assert filled.columns.loaded().numbers.tobytes() == whole.columns.numbers.tobytes()
    assert filled.fingerprint == whole.fingerprint


def test_a_table_that_is_absent_is_told_and_its_roll_ups_are_missing(
    data: Path, settings: TrainingSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    shutil.copytree(data, folder)
    (folder / "bureau.parquet").unlink()
    dataset = loaded(folder, settings)
    assert dataset.warnings[-1] == "no file of bureau: their roll-ups are missing"
    schema, whole = settings.declared.schema, loaded(data, settings)
    for column in schema.rolled_up:
        values = dataset.columns.numbers[:, schema.position[column.name]]
        if column.history == "bureau":
            assert np.isnan(values).all()
        else:
            assert values.tobytes() == whole.columns.numbers[:, schema.position[column.name]].tobytes()


def test_a_model_reads_them_and_says_so(data: Path, settings: TrainingSettings) -> None:
    trained = train(loaded(data, settings), settings, QUIET)
    assert len(trained.features.rolled_up) > 20
    sets = tuple(name for name in settings.features.sets_of(settings.declared) if not name.startswith("histor"))
    alone = settings.model_copy(update={"features": settings.features.model_copy(update={"sets": sets})})
    assert (reads_histories(settings), reads_histories(alone)) == (True, False)
    dataset = load_dataset(data, settings.declared)
    assert with_histories(dataset, data, alone, QUIET) is dataset
    assert train(dataset, alone, QUIET).features.rolled_up == frozenset()


def test_applications_that_state_their_roll_ups_are_left_alone(data: Path, settings: TrainingSettings) -> None:
    dataset = load_dataset(data, settings.declared)
    numbers = dataset.columns.numbers.copy()
    numbers[0, -1] = 7.0
    stating = replace(dataset, columns=replace(dataset.columns, numbers=numbers))
    assert with_histories(stating, data, settings, QUIET) is stating
