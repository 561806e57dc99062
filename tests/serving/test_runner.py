from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring import Scores
from serving import Overloaded, Runner
from serving.settings import RunnerSettings

Rows = NDArray[np.float64]


def scores_of(margin: Rows) -> Scores:
    names = np.array([str(value) for value in margin], dtype=object)
    whole = margin.astype(np.int64)
    return Scores(margin, margin / 100, whole, names, names, whole)


class Recorder:
    """Scores a row as itself, remembers the batches, and fails on the row 13."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, rows: Rows) -> Scores:
        self.batches.append(rows.tolist())
        if 13.0 in rows:
            raise ValueError("cannot be scored")
        return scores_of(rows)


def runner(score: Callable[[Rows], Scores], *, max_batch_rows: int = 4, max_waiting: int = 100) -> Runner[Rows]:
    settings = RunnerSettings(max_batch_rows=max_batch_rows, max_waiting=max_waiting, retry_after_seconds=2)
    return Runner(score, np.concatenate, settings)


def score_all(scorer: Runner[Rows], rows: Sequence[float]) -> list[Scores | BaseException]:
    async def run() -> list[Scores | BaseException]:
        return await asyncio.gather(*(scorer.score(np.array([row])) for row in rows), return_exceptions=True)

    return asyncio.run(run())


def margins(answers: Sequence[Scores | BaseException]) -> list[list[float]]:
    return [answer.margin.tolist() for answer in answers if isinstance(answer, Scores)]


def test_a_lone_request_is_scored_alone() -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), [7])) == [[7.0]]
    assert recorder.batches == [[7.0]]


def test_concurrent_requests_are_scored_together_and_each_gets_its_own_answer() -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), [1, 2, 3])) == [[1.0], [2.0], [3.0]]
    assert recorder.batches == [[1.0, 2.0, 3.0]]


def test_a_batch_never_exceeds_its_limit() -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), range(10))) == [[float(i)] for i in range(10)]
    assert [len(batch) for batch in recorder.batches] == [4, 4, 2]


def test_requests_that_come_one_after_the_other_do_not_wait_for_each_other() -> None:
    recorder = Recorder()
    scorer = runner(recorder)

    async def run() -> None:
        for row in (1.0, 2.0):
            await scorer.score(np.array([row]))

    asyncio.run(run())
    assert recorder.batches == [[1.0], [2.0]]


def test_a_row_that_cannot_be_scored_does_not_fail_its_neighbours() -> None:
    answers = score_all(runner(Recorder()), [1, 13, 3])
    assert margins(answers) == [[1.0], [3.0]]
    assert isinstance(answers[1], ValueError)


def test_too_few_scores_are_never_handed_out() -> None:
    answers = score_all(runner(lambda rows: scores_of(rows[:-1])), [1, 2])
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]


def test_what_does_not_fit_in_the_queue_is_refused_with_a_time_to_retry() -> None:
    answers = score_all(runner(Recorder(), max_waiting=2), [1, 2, 3])
    assert margins(answers) == [[1.0], [2.0]]
    assert isinstance(answers[2], Overloaded)
    assert answers[2].headers == {"Retry-After": "2"}


def test_a_request_that_was_given_up_is_not_scored() -> None:
    recorder = Recorder()
    scorer = runner(recorder)

    async def run() -> None:
        given_up = asyncio.ensure_future(scorer.score(np.array([1.0])))
        kept = asyncio.ensure_future(scorer.score(np.array([2.0])))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await kept).margin.tolist() == [2.0]
        with pytest.raises(asyncio.CancelledError):
            await given_up

    asyncio.run(run())
    assert recorder.batches == [[2.0]]
