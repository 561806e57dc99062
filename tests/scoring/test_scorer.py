from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from features.errors import ColumnsError
from features.transformer import concatenate
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.scorer import Scorer, Scores
from tests.features.examples import bits, columns

ARRAYS = ("margin", "probability", "prediction", "decision", "risk_level", "points")


def all_bits(scores: Scores) -> tuple[bytes, ...]:
    return bits(scores.margin, scores.probability, scores.prediction, scores.points) + tuple(
        " ".join(values).encode() for values in (scores.decision, scores.risk_level)
    )


def test_a_score_is_the_calibrated_and_judged_margin(scorer, applications):
    scores = scorer.score(applications)
    decisions = set()
    for i in range(len(applications)):
        log_odds = 1.1 * scores.margin[i] - 0.1
        probability = scores.probability[i]
        assert probability == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-12)
        assert scores.prediction[i] == (1 if probability >= 0.08 else 0)
        assert scores.decision[i] == ("approve" if probability < 0.07 else "refer" if probability < 0.09 else "decline")
        level = sum(probability >= bound for bound in (0.04, 0.08, 0.16))
        assert scores.risk_level[i] == ("LOW", "MEDIUM", "HIGH", "CRITICAL")[level]
        assert scores.points[i] == round(600 + 20 * (-log_odds - math.log(50)) / math.log(2))
        decisions |= {scores.decision[i], scores.risk_level[i]}
    assert decisions == {"approve", "refer", "decline", "LOW", "MEDIUM", "HIGH", "CRITICAL"}


def test_applications_and_their_model_matrix_have_the_same_scores(scorer, applications, model_matrix):
    assert all_bits(scorer.score(applications)) == all_bits(scorer.score_matrix(model_matrix))


@pytest.mark.parametrize("size", [1, 7, 150])
def test_any_batch_gives_the_same_bits(scorer, applications, size):
    whole = scorer.score(applications)
    for start in range(0, len(applications), size):
        rows = slice(start, start + size)
        assert all_bits(scorer.score(applications.take(rows))) == all_bits(whole.take(rows))


def test_a_score_does_not_depend_on_the_other_applicants(scorer, applications):
    strangers = columns({"AMT_CREDIT": 1e9, "ORGANIZATION_TYPE": "never seen"}, {"EXT_SOURCE_2": 1.0})
    beside = scorer.score(concatenate([strangers, applications]))
    assert all_bits(beside.take(slice(2, None))) == all_bits(scorer.score(applications))


@pytest.mark.parametrize("threads", [2, 4])
def test_any_number_of_threads_gives_the_same_bits(artefact, scorer, applications, threads):
    assert all_bits(Scorer(artefact, threads=threads).score(applications)) == all_bits(scorer.score(applications))


def test_an_artefact_that_was_written_and_read_scores_the_same_bits(artefact, scorer, applications, tmp_path):
    artefact.write(tmp_path / "artefact")
    again = Scorer(Artefact.read(tmp_path / "artefact"))
    assert all_bits(again.score(applications)) == all_bits(scorer.score(applications))


def test_no_applications_have_no_scores(scorer, applications):
    scores = scorer.score(applications.take(slice(0)))
    assert len(scores) == 0
    assert [len(getattr(scores, name)) for name in ARRAYS] == [0] * 6


def test_some_of_the_scores(scorer, applications):
    scores = scorer.score(applications)
    taken = scores.take(slice(3, 5))
    assert len(taken) == 2
    for name in ARRAYS:
        assert getattr(taken, name).tolist() == getattr(scores, name)[3:5].tolist()


def test_the_features_are_those_of_the_artefact(scorer, artefact):
    assert scorer.features == artefact.features.names
    assert scorer.artefact is artefact


@pytest.mark.parametrize("shape", [lambda d: (2, d - 1), lambda d: (2, d + 1), lambda d: (d,), lambda d: (1, 1, d)])
def test_a_matrix_of_another_width_is_refused(scorer, shape):
    d = len(scorer.features)
    with pytest.raises(ColumnsError) as caught:
        scorer.score_matrix(np.zeros(shape(d)))
    assert str(caught.value) == f"the model takes {d} features, not shape {shape(d)}"


def test_a_drift_reference_of_other_features_is_refused(artefact):
    bins, importance = artefact.reference.features, artefact.reference.importance
    turned = replace(artefact.reference, features=dict(reversed(bins.items())), importance=importance)
    with pytest.raises(ArtefactError, match=r"^the drift reference is of other features than the model$"):
        Scorer(replace(artefact, reference=turned))


def test_an_artefact_whose_model_takes_other_features_is_refused(artefact):
    state = artefact.features
    fewer = type(state)(
        names=state.names[:-1], vocabularies=state.vocabularies, clip=state.clip, portfolio=state.portfolio
    )
    other = replace(artefact, features=fewer)
    with pytest.raises(ArtefactError, match=f"the model takes {len(state.names)} features, not {len(fewer.names)}$"):
        Scorer(other)


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_one_row_is_decided_as_among_others(scorer, model_matrix, missing):
    random, matrix = np.random.default_rng(int(10 * missing)), model_matrix.copy()
    matrix[random.random(matrix.shape) < missing] = np.nan
    for column, unknown in zip(scorer.transformer.categorical, scorer.transformer.largest_codes, strict=True):
        matrix[random.random(len(matrix)) < 0.1, column] = unknown
    margin = np.concatenate([scorer.model.margins(matrix)[:-3], [0.0, 800.0, -800.0]])
    whole = scorer.decide(matrix, margin)
    for i in range(len(matrix)):
        alone, row = scorer.decide(matrix[i : i + 1], margin[i : i + 1]), whole.take(slice(i, i + 1))
        assert all_bits(alone) == all_bits(row)
        assert [array.tolist() for array in (alone.missing, alone.unknown, alone.withheld, alone.reasons)] == [
            array.tolist() for array in (row.missing, row.unknown, row.withheld, row.reasons)
        ]
