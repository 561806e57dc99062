"""Decisions that wait to be counted."""

from __future__ import annotations

import numpy as np

from monitoring.counts import Buffer
from scoring.scorer import Scores


def scores(*probabilities: float) -> Scores:
    n = len(probabilities)
    words = np.array([f"word {probability}" for probability in probabilities], dtype=object)
    return Scores(
        margin=np.zeros(n),
        probability=np.array(probabilities),
        prediction=np.zeros(n, dtype=np.int64),
        decision=words,
        risk_level=words + " of risk",
        points=np.zeros(n, dtype=np.int64),
        missing=np.arange(n),
        unknown=words + " unknown",
        withheld=words + " withheld",
        reasons=words + " reasons",
    )


def test_there_is_room_for_so_many_rows_and_no_more():
    buffer = Buffer(3, 2)
    assert buffer.holds(3)
    assert not buffer.holds(4)
    buffer.keep(np.ones((2, 2)), scores(0.1, 0.2))
    assert buffer.holds(1)
    assert not buffer.holds(2)


def test_what_is_kept_is_taken_once_in_its_order():
    buffer = Buffer(4, 1)
    buffer.keep(np.array([[1.0], [2.0]]), scores(0.1, 0.2))
    buffer.keep(np.array([[3.0]]), scores(0.3))
    taken = buffer.take()
    assert len(taken) == 3
    assert taken.matrix.tolist() == [[1.0], [2.0], [3.0]]
    assert taken.probability.tolist() == [0.1, 0.2, 0.3]
    assert taken.decision.tolist() == ["word 0.1", "word 0.2", "word 0.3"]
    assert taken.risk_level.tolist() == ["word 0.1 of risk", "word 0.2 of risk", "word 0.3 of risk"]
    assert taken.missing.tolist() == [0, 1, 0]
    assert taken.unknown.tolist() == ["word 0.1 unknown", "word 0.2 unknown", "word 0.3 unknown"]
    assert taken.unavailable is None
    assert taken.withheld.tolist() == ["word 0.1 withheld", "word 0.2 withheld", "word 0.3 withheld"]
    assert len(buffer.take()) == 0
    buffer.keep(np.array([[4.0]]), scores(0.4))
    assert buffer.take().matrix.tolist() == [[4.0]]


def test_whose_history_was_not_available_is_kept_and_forgotten_with_the_rows():
    buffer = Buffer(4, 1)
    buffer.keep(np.array([[1.0]]), scores(0.1))
    buffer.keep(np.array([[2.0], [3.0]]), scores(0.2, 0.3), np.array([True, False]))
    assert buffer.take().unavailable.tolist() == [False, True, False]
    buffer.keep(np.array([[4.0], [5.0]]), scores(0.4, 0.5))
    assert buffer.take().unavailable is None
