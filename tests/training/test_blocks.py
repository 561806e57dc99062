"""Training by blocks: columns and matrices in files, and the bits of a training in memory."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from features.errors import SchemaError
from features.fitting import fit_stored_features
from features.transformer import FeatureTransformer
from jobs.commandline import Progress
from tests.home_credit import PORTFOLIO
from training.blocks import BlockDataset, BlockMatrix, ColumnFile, StoredDataset, read_source, store_parts
from training.dataset import Dataset, load_dataset
from training.errors import DataError, TrainingError
from training.fitting import fit_state, fitted_to, margins_of, text
from training.run import Delivered, deliver
from training.settings import TrainingSettings


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated, PORTFOLIO)


def in_blocks(data: Path, folder: Path) -> StoredDataset:
    folder.mkdir()
    return store_parts(read_source(data, PORTFOLIO), data, PORTFOLIO, folder)


@pytest.fixture(scope="module")
def in_parts(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows in three Parquet files, whose row groups are shorter than a block."""
    folder = tmp_path_factory.mktemp("parts")
    table = csv.read_csv(generated / "application_train.csv")
    for number, first in enumerate(range(0, len(table), 1_000)):
        parquet.write_table(table.slice(first, 1_000), folder / f"part-{number:05}.parquet", row_group_size=300)
    return folder


@pytest.fixture(scope="module")
def stored(in_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredDataset:
    return in_blocks(in_parts, tmp_path_factory.mktemp("stored") / "columns")


def test_the_files_hold_what_memory_would_hold(dataset: Dataset, stored: StoredDataset) -> None:
    loaded = stored.columns.loaded()
    np.testing.assert_array_equal(loaded.numbers, dataset.columns.numbers)
    assert loaded.levels.tolist() == dataset.columns.levels.tolist()
    assert (stored.ids.tolist(), stored.target.tolist()) == (dataset.ids.tolist(), dataset.target.tolist())
    assert stored.warnings == dataset.warnings


def test_chosen_rows_of_chosen_rows(dataset: Dataset, stored: StoredDataset) -> None:
    chosen = stored.columns.take(np.arange(5, 3_000, 7)).take(np.array([0, 3, 300]))
    np.testing.assert_array_equal(chosen.loaded().numbers, dataset.columns.numbers[[5, 26, 2_105]])
    np.testing.assert_array_equal(chosen.number(0), dataset.columns.numbers[[5, 26, 2_105], 0])
    level = dataset.columns.levels[26, 0]
    assert 1 in chosen.rows_with(0, {level})
    assert chosen.level_counts(0).total() == 3


def test_the_state_of_some_rows_is_that_of_memory(
    dataset: Dataset, stored: StoredDataset, settings: TrainingSettings
) -> None:
    rows = np.flatnonzero(np.arange(len(dataset)) % 3 > 0)
    states = [
        fit_state(columns.take(rows), dataset.target[rows], settings.features, settings.model, seed=1)
        for columns in (dataset.columns, stored.columns)
    ]
    assert states[0] == states[1]


@pytest.mark.parametrize("sample", [200_000, 500])
def test_the_trees_have_the_bits_of_memory_however_few_rows_make_the_bins(
    dataset: Dataset, stored: StoredDataset, settings: TrainingSettings, sample: int
) -> None:
    fitted = fitted_to(dataset, settings)
    state = fit_state(dataset.columns, dataset.target, fitted.features, fitted.model, seed=1)
    transformer = FeatureTransformer(state)
    matrix = transformer.transform(dataset.columns)
    parameters = {"objective": "binary", "seed": 3, "verbosity": -1, "num_threads": 1, "deterministic": True,
                  "force_col_wise": True, "bin_construct_sample_cnt": sample}  # fmt: skip
    with stored.columns.transformed(transformer) as blocks:
        texts = {
            lgb.train(parameters, kind(held, dataset.target), 10).model_to_string()
            for kind, held in ((lgb.Dataset, matrix), (BlockDataset, blocks))
        }
        assert len(texts) == 1
        booster = lgb.Booster(model_str=texts.pop())
        np.testing.assert_array_equal(margins_of(booster, blocks, threads=1), margins_of(booster, matrix, threads=1))
        rows = np.array([2_999, 4, 1_500])
        np.testing.assert_array_equal(blocks[rows], matrix[rows])
        np.testing.assert_array_equal(blocks[7], matrix[7])
        np.testing.assert_array_equal(next(iter(blocks.features())), matrix[:, 0])


def test_a_fit_goes_on_from_earlier_trees(stored: StoredDataset, tmp_path: Path) -> None:
    file = ColumnFile(tmp_path / "matrix", 2, np.float64)
    numbers = np.random.default_rng(1).normal(size=(2, 900))
    for first in (0, 400):
        file.append(numbers[:, first : first + 500][:, : 400 if first == 0 else 500])
    target = (numbers[0] > 0.5).astype(np.int64)
    matrix = BlockMatrix(file)
    first_trees = lgb.train({"verbosity": -1, "objective": "binary"}, BlockDataset(matrix, target), 3)
    further = lgb.train(
        {"verbosity": -1, "objective": "binary"}, BlockDataset(matrix, target), 2, init_model=first_trees
    )
    in_memory = lgb.train(
        {"verbosity": -1, "objective": "binary"}, lgb.Dataset(numbers.T.copy(), target), 2, init_model=first_trees
    )
    assert further.num_trees() == 5
    assert text(further) == text(in_memory)


def test_a_whole_training_by_blocks_gives_the_model_of_memory(
    delivered: Delivered, generated: Path, settings: TrainingSettings
) -> None:
    other = deliver(generated, settings, Progress(quiet=True), by_blocks=True)
    ours, theirs = other.trained, delivered.trained
    assert ours.model_text == theirs.model_text
    assert (ours.features, ours.calibration, ours.reference) == (theirs.features, theirs.calibration, theirs.reference)
    assert ours.metrics() == theirs.metrics()
    assert ours.interpretation == theirs.interpretation
    np.testing.assert_array_equal(other.verdict.challenger.probability, delivered.verdict.challenger.probability)
    assert other.verdict.challenger.fitted_on == len(theirs.probabilities)


def test_filters_of_the_whole_matrix_are_refused(stored: StoredDataset, settings: TrainingSettings) -> None:
    filters = settings.features.filters.model_copy(update={"correlation": 0.9})
    with pytest.raises(SchemaError, match="correlation and importance need the whole matrix in memory"):
        fit_stored_features(stored.columns, settings.features.model_copy(update={"filters": filters}))


def test_later_applications_are_refused(generated: Path, settings: TrainingSettings) -> None:
    later = settings.model_copy(update={"out_of_time": {"share": 0.2}})
    with pytest.raises(TrainingError, match="--by-blocks: sets no later applications aside"):
        deliver(generated, later, Progress(quiet=True), by_blocks=True)


def test_every_rule_is_held_over_all_parts(in_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    tables = [parquet.read_table(path) for path in sorted(in_parts.iterdir())]
    twice = tables[1].set_column(0, "SK_ID_CURR", tables[0]["SK_ID_CURR"])
    wrong = twice.set_column(1, "TARGET", pa.array([7, *twice["TARGET"].to_pylist()[1:]]))
    for number, table in enumerate((tables[0], wrong)):
        parquet.write_table(table, folder / f"part-{number}.parquet")
    with pytest.raises(DataError) as caught:
        in_blocks(folder, tmp_path / "columns")
    assert "SK_ID_CURR: must be unique (1000 rows: 1001, 1002" in str(caught.value)
    assert "TARGET: must be 0 or 1 (1 row: 1001)" in str(caught.value)
