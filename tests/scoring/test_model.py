from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import numpy as np
import pytest

import scoring.model
from scoring.errors import ArtefactError
from scoring.model import Model
from tests.features.examples import bits


@pytest.fixture(scope="module")
def model(artefact) -> Model:
    return Model(artefact.model_text)


def test_the_margins_are_the_raw_scores_of_lightgbm(artefact, model, model_matrix):
    raw = lgb.Booster(model_str=artefact.model_text).predict(model_matrix, raw_score=True)
    assert bits(model.margins(model_matrix)) == bits(raw)
    assert len(set(raw)) > 50
    assert (raw < 0).mean() > 0.9


def test_a_model_knows_its_size(model, artefact):
    assert model.trees == 20
    assert model.features == len(artefact.features.names)


@pytest.mark.parametrize("threads", [2, 4])
def test_any_number_of_threads_gives_the_same_bits(artefact, model, model_matrix, threads):
    assert bits(Model(artefact.model_text, threads=threads).margins(model_matrix)) == bits(model.margins(model_matrix))


@pytest.mark.parametrize("size", [1, 3, 64, 399])
def test_any_batch_gives_the_same_bits(model, model_matrix, size):
    parts = [model.margins(model_matrix[start : start + size]) for start in range(0, len(model_matrix), size)]
    assert bits(np.concatenate(parts)) == bits(model.margins(model_matrix))


def test_the_order_of_the_rows_is_the_order_of_their_margins(model, model_matrix):
    order = np.random.default_rng(3).permutation(len(model_matrix))
    assert bits(model.margins(model_matrix[order])) == bits(model.margins(model_matrix)[order])


def test_no_rows_have_no_margins(model, model_matrix):
    margins = model.margins(model_matrix[:0])
    assert margins.shape == (0,)
    assert margins.dtype == np.float64


@pytest.mark.parametrize("text", ["", "no model", "tree\nversion=v4\n"])
def test_what_is_no_model_is_refused(text, capfd):
    with pytest.raises(ArtefactError, match=r"^the model text is not a LightGBM model$"):
        Model(text)


def test_a_model_of_several_classes_is_refused():
    matrix = np.arange(60, dtype=np.float64).reshape(-1, 1)
    parameters = {"objective": "multiclass", "num_class": 3, "num_threads": 1, "verbosity": -1}
    booster = lgb.train(parameters, lgb.Dataset(matrix, np.arange(60) % 3), num_boost_round=1)
    with pytest.raises(ArtefactError, match=r"^the model has 3 scores for a row, not one$"):
        Model(booster.model_to_string())


@pytest.mark.parametrize("shape", [(1, 3), (5, 3), (0, 3), (7,)])
def test_a_matrix_of_another_width_is_refused_and_not_read_past_its_end(model, shape):
    with pytest.raises(ValueError, match=rf"^the model takes {model.features} features, not shape "):
        model.margins(np.zeros(shape))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_any_layout_of_the_matrix_gives_the_margins_of_its_numbers(model, order, kind):
    matrix = np.random.default_rng(5).normal(size=(4, model.features)).astype(np.float32)
    expected = model.margins(matrix.astype(np.float64))
    assert bits(model.margins(np.asarray(matrix, dtype=kind, order=order))) == bits(expected)
    assert bits(model.margins(np.asarray(matrix[:1], dtype=kind, order=order))) == bits(expected[:1])


def test_an_older_library_without_the_single_row_entry_gives_the_same_bits(artefact, model, model_matrix, monkeypatch):
    class Older:
        def __getattr__(self, name):
            if name.startswith("LGBM_BoosterPredictForMatSingleRow"):
                raise AttributeError(name)
            return getattr(library, name)

    library = scoring.model._library()
    monkeypatch.setattr(scoring.model, "_library", Older)
    older = Model(artefact.model_text)
    assert older._single_row == older._booster.margins
    assert [bits(older.margins(row)) for row in model_matrix[:50, np.newaxis]] == [
        bits(model.margins(row)) for row in model_matrix[:50, np.newaxis]
    ]


def test_every_entry_of_the_library_is_declared_by_its_name() -> None:
    library, declared = scoring.model._library(), scoring.model._PROTOTYPES
    assert {name: getattr(library, name).argtypes for name in declared} == declared


def test_only_single_rows_keep_the_interpreter_lock() -> None:
    assert type(scoring.model._library()) is ctypes.CDLL
    assert type(scoring.model._library(holding_lock=True)) is ctypes.PyDLL


def test_the_service_needs_neither_the_package_nor_what_it_imports():
    code = "import sys, scoring.scorer; print(sorted({'lightgbm', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_many_threads_can_ask_one_model(model, model_matrix):
    expected = bits(model.margins(model_matrix))
    rows = list(model_matrix[:, np.newaxis])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(model.margins, rows * 5))
        batches = list(pool.map(model.margins, [model_matrix] * 16))
    assert bits(np.concatenate(answers)) == bits(np.tile(model.margins(model_matrix), 5))
    assert {bits(batch) for batch in batches} == {expected}
