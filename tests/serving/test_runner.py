from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.scorer import Scores
from serving.runner import EmbeddedRunner, Observer, RemoteRunner, Runner
from serving.settings import Placement, RunnerSettings

Rows = NDArray[np.float64]


def scores_of(margin: Rows) -> Scores:
    names = np.array([str(value) for value in margin], dtype=object)
    whole = margin.astype(np.int64)
    nothing = np.array([()] * len(margin) + [None], dtype=object)[:-1]
    return Scores(margin, margin / 100, whole, names, names, whole, whole, nothing, nothing, nothing)


class Seen:
    """Remembers the sizes of the batches it is told of."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.waits: list[float] = []

    def __call__(self, rows: int, waited: float) -> None:
        self.sizes.append(rows)
        self.waits.append(waited)


class Recorder:
    """Scores a row as itself, remembers the batches, and fails on the row 13."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, rows: Rows) -> Scores:
        self.batches.append(rows.tolist())
        if 13.0 in rows:
            raise ValueError("cannot be scored")
        return scores_of(rows)


SETTINGS = RunnerSettings(placement=Placement.EMBEDDED, max_batch_rows=4, batches_in_flight=2, threads=1, service={})


UNSEEN = Seen()


def embedded(score: Callable[[Rows], Scores], observe: Observer = UNSEEN) -> Runner[Rows, Scores]:
    return EmbeddedRunner(score, np.concatenate, SETTINGS, observe)


def remote(score: Callable[[Rows], Scores], observe: Observer = UNSEEN) -> Runner[Rows, Scores]:
    async def elsewhere(rows: Rows) -> Scores:
        await asyncio.sleep(0)
        return score(rows)

    return RemoteRunner(elsewhere, np.concatenate, SETTINGS, observe)


MakeRunner = Callable[..., Runner[Rows, Scores]]
either = pytest.mark.parametrize("runner", [embedded, remote])


def score_all(scorer: Runner[Rows, Scores], rows: Sequence[float]) -> list[Scores | BaseException]:
    async def run() -> list[Scores | BaseException]:
        return await asyncio.gather(*(scorer.score(np.array([row])) for row in rows), return_exceptions=True)

    return asyncio.run(run())


def margins(answers: Sequence[Scores | BaseException]) -> list[list[float]]:
    return [answer.margin.tolist() for answer in answers if isinstance(answer, Scores)]


@either
def test_a_lone_request_is_scored_alone(runner: MakeRunner) -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), [7])) == [[7.0]]
    assert recorder.batches == [[7.0]]


@either
def test_concurrent_requests_are_scored_together_and_each_gets_its_own_answer(
    runner: MakeRunner,
) -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), [1, 2, 3])) == [[1.0], [2.0], [3.0]]
    assert recorder.batches == [[1.0, 2.0, 3.0]]


@either
def test_a_batch_never_exceeds_its_limit(runner: MakeRunner) -> None:
    recorder = Recorder()
    assert margins(score_all(runner(recorder), range(10))) == [[float(i)] for i in range(10)]
    assert [len(batch) for batch in recorder.batches] == [4, 4, 2]


@either
def test_requests_that_come_one_after_the_other_do_not_wait_for_each_other(runner: MakeRunner) -> None:
    recorder = Recorder()
    scorer = runner(recorder)

    async def run() -> None:
        for row in (1.0, 2.0):
            await scorer.score(np.array([row]))

    asyncio.run(run())
    assert recorder.batches == [[1.0], [2.0]]


@either
def test_a_row_that_cannot_be_scored_does_not_fail_its_neighbours(runner: MakeRunner) -> None:
    answers = score_all(runner(Recorder()), [1, 13, 3])
    assert margins(answers) == [[1.0], [3.0]]
    assert isinstance(answers[1], ValueError)


@either
def test_too_few_scores_are_never_handed_out(runner: MakeRunner) -> None:
    answers = score_all(runner(lambda rows: scores_of(rows[:-1])), [1, 2])
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]


@either
def test_a_request_that_was_given_up_is_not_scored(runner: MakeRunner) -> None:
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


@either
def test_every_batch_is_observed(runner: MakeRunner) -> None:
    seen = Seen()
    score_all(runner(Recorder(), seen), range(5))
    assert seen.sizes == [4, 1]
    assert min(seen.waits) >= 0


def test_what_is_put_while_rows_are_answered_waits_for_the_next_turn() -> None:
    seen = Seen()
    scorer = embedded(Recorder(), seen)

    class Again:
        """Asks once more with each answer, as a connection does whose requests lie behind one another."""

        left = 3

        def done(self) -> bool:
            return False

        def set_result(self, _: Scores, /) -> None:
            self.left -= 1
            if self.left:
                scorer.put(np.array([1.0]), self)

        def set_exception(self, error: BaseException, /) -> None:
            raise error

    async def run() -> list[int]:
        asking, left = Again(), []
        scorer.put(np.array([1.0]), asking)
        while asking.left:
            await asyncio.sleep(0)
            left.append(asking.left)
        return left

    assert asyncio.run(run()) == [2, 1, 0]
    assert seen.sizes == [1, 1, 1]


def test_what_comes_while_batches_are_away_goes_together_when_one_returns() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    batches: list[list[float]] = []

    async def elsewhere(rows: Rows) -> Scores:
        batches.append(rows.tolist())
        await gates[len(batches) - 1].wait()
        return scores_of(rows)

    async def run() -> list[Scores]:
        scorer = RemoteRunner(elsewhere, np.concatenate, SETTINGS, Seen())
        asked = []
        for row in (1.0, 2.0, 3.0, 4.0):
            asked.append(asyncio.ensure_future(scorer.score(np.array([row]))))
            await _settled()
        assert batches == [[1.0], [2.0]]
        gates[1].set()
        await _settled()
        assert batches == [[1.0], [2.0], [3.0, 4.0]]
        gates[0].set()
        gates[2].set()
        return await asyncio.gather(*asked)

    assert margins(asyncio.run(run())) == [[1.0], [2.0], [3.0], [4.0]]


def test_a_request_that_was_given_up_while_away_does_not_hinder_the_others() -> None:
    gate = asyncio.Event()

    async def elsewhere(rows: Rows) -> Scores:
        await gate.wait()
        return scores_of(rows)

    async def run() -> None:
        scorer = RemoteRunner(elsewhere, np.concatenate, SETTINGS, Seen())
        given_up, kept = (asyncio.ensure_future(scorer.score(np.array([row]))) for row in (1.0, 2.0))
        await _settled()
        given_up.cancel()
        gate.set()
        assert (await kept).margin.tolist() == [2.0]

    asyncio.run(run())


async def _settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_after_a_failed_batch_nothing_is_asked_for_callers_that_have_gone() -> None:
    asked: list[list[float]] = []
    gate = asyncio.Event()

    async def elsewhere(rows: Rows) -> Scores:
        asked.append(rows.tolist())
        await gate.wait()
        raise ConnectionError

    async def run() -> None:
        scorer = RemoteRunner(elsewhere, np.concatenate, SETTINGS, Seen())
        callers = [asyncio.ensure_future(scorer.score(np.array([row]))) for row in (1.0, 2.0, 3.0)]
        await _settled()
        for caller in callers[:2]:
            caller.cancel()
        gate.set()
        with pytest.raises(ConnectionError):
            await callers[2]

    asyncio.run(run())
    assert asked == [[1.0, 2.0, 3.0], [3.0]]
