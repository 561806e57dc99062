from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from scoring import ArtefactError, Model
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
    with pytest.raises(ArtefactError, match=r"^the model answered shape \(60, 3\) for 60 rows$"):
        Model(booster.model_to_string()).margins(matrix)
