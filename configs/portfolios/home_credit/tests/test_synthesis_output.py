from __future__ import annotations

import re

import numpy as np
import pytest

from configs.portfolios.home_credit.generator.dataset import DataTable, Writer, synthesize
from configs.portfolios.home_credit.generator.draws import SynthesisError


def interrupt(finished: int) -> None:
    raise KeyboardInterrupt


def fail(finished: int) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(("progress", "error"), [(interrupt, KeyboardInterrupt), (fail, ZeroDivisionError)])
def test_nothing_is_left_behind_when_it_stops_halfway(tmp_path, progress, error):
    with pytest.raises(error):
        synthesize(tmp_path / "data", clients=200, seed=1, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_output_appears_only_when_complete(tmp_path):
    seen: list[bool] = []
    synthesize(tmp_path / "data", clients=200, seed=1, progress=lambda _: seen.append((tmp_path / "data").exists()))
    assert seen == [False, False]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "data").mkdir()
    synthesize(tmp_path / "data", clients=100, seed=1)
    assert len(list((tmp_path / "data").iterdir())) == 9


def test_missing_parents_are_created(tmp_path):
    synthesize(tmp_path / "deep" / "down" / "data", clients=100, seed=1)
    assert len(list((tmp_path / "deep" / "down" / "data").iterdir())) == 9


def test_a_column_that_is_declared_but_not_generated_is_named(tmp_path):
    declared = DataTable("application_train", ("SK_ID_CURR", "NEW_COLUMN"))
    with Writer(tmp_path, "csv") as writer, pytest.raises(SynthesisError) as caught:
        writer.write(declared, {"SK_ID_CURR": np.array([1])})
    assert str(caught.value) == "the generator makes no NEW_COLUMN, which application_train declares"


def test_a_directory_with_files_is_refused_and_kept(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(SynthesisError, match=re.escape(f"{tmp_path}: exists already")):
        synthesize(tmp_path, clients=100, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("kept")
    with pytest.raises(SynthesisError, match="exists already"):
        synthesize(tmp_path / "data", clients=100, seed=1)


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("kept")
    output = tmp_path / "file" / "data"
    with pytest.raises(SynthesisError, match=re.escape(f"{output}: cannot be written (")):
        synthesize(output, clients=100, seed=1)


@pytest.mark.parametrize("clients", [-1, 0, 1, 99])
def test_too_few_clients(tmp_path, clients):
    with pytest.raises(SynthesisError, match=f"clients is {clients}, must be at least 100"):
        synthesize(tmp_path / "data", clients=clients, seed=1)


def test_negative_seed(tmp_path):
    with pytest.raises(SynthesisError, match="seed is -1, must not be negative"):
        synthesize(tmp_path / "data", clients=100, seed=-1)


def test_unknown_format(tmp_path):
    with pytest.raises(SynthesisError, match="file_format is 'xml', must be one of csv, parquet"):
        synthesize(tmp_path / "data", clients=100, seed=1, file_format="xml")
    assert list(tmp_path.iterdir()) == []
