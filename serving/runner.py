"""The adaptive-batching runner: concurrent requests of one worker are scored together.

A request never waits for others to come. Those that arrived while the worker was busy are scored in one call: alone at
low load, in growing batches as load rises.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from time import perf_counter
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from serving.problems import HTTPProblem
from serving.settings import RunnerSettings


class Result(Protocol):
    """What is made of several rows, and can be handed out row by row."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def take(self, rows: slice) -> Self:
        """Those of the chosen rows."""
        ...


Rows = TypeVar("Rows")
Results = TypeVar("Results", bound=Result)
Taken_contra = TypeVar("Taken_contra", contravariant=True)


class Observer(Protocol):
    """Takes the number of rows of each batch, and the seconds that its first row waited."""

    def __call__(self, rows: int, waited: float, /) -> None:
        """Note a batch."""
        ...


class Outcome(Protocol[Taken_contra]):
    """Takes what is made of one row. An `asyncio.Future` does."""

    def done(self) -> bool:
        """Whether nothing need be made of the row any more."""
        ...

    def set_result(self, result: Taken_contra, /) -> None:
        """Take what was made of the row."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """Take the error that came instead."""
        ...


class _Waiting(NamedTuple, Generic[Rows, Results]):
    row: Rows
    answer: Outcome[Results]
    since: float


class Runner(ABC, Generic[Rows, Results]):
    """Scores concurrent single rows together, in batches.

    Parameters
    ----------
    join : joins several rows into one batch
    observe : is told the size and the wait of every batch
    """

    def __init__(self, join: Callable[[Sequence[Rows]], Rows], settings: RunnerSettings, observe: Observer) -> None:
        self._join = join
        self._settings = settings
        self._observe = observe
        self._queue: deque[_Waiting[Rows, Results]] = deque()

    async def score(self, row: Rows) -> Results:
        """Return the scores of one row. `limits.in_flight` bounds how many rows wait."""
        answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        self.put(row, answer)
        return await answer

    def put(self, row: Rows, answer: Outcome[Results]) -> None:
        """Have one row scored soon, and its scores handed to `answer`."""
        if not self._queue:
            self._flush_soon()
        self._queue.append(_Waiting(row, answer, perf_counter()))

    @abstractmethod
    def _flush_soon(self) -> None:
        """Have the waiting rows scored in the next turn of the event loop."""

    def _next_batch(self, queue: deque[_Waiting[Rows, Results]]) -> list[_Waiting[Rows, Results]]:
        batch: list[_Waiting[Rows, Results]] = []
        while queue and len(batch) < self._settings.max_batch_rows:
            one = queue.popleft()
            # A request past its time limit has cancelled its future: the row is not scored, and no decision recorded.
            if not one.answer.done():
                batch.append(one)
        if batch:
            self._observe(len(batch), perf_counter() - batch[0].since)
        return batch

    def _join_rows(self, batch: Sequence[_Waiting[Rows, Results]]) -> Rows:
        return self._join([one.row for one in batch])


class EmbeddedRunner(Runner[Rows, Results]):
    """Scores on the event loop's own thread: for models that take microseconds.

    Parameters
    ----------
    score : scores a batch
    afterwards : is called when a turn has handed out its scores, for what nobody need wait for

    All rows that wait when a turn begins are scored in it. Under overload a turn is spent on refusing other requests,
    so that one batch for each turn would be too few.
    """

    def __init__(
        self,
        score: Callable[[Rows], Results],
        join: Callable[[Sequence[Rows]], Rows],
        settings: RunnerSettings,
        observe: Observer,
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(join, settings, observe)
        self._score = score
        self._afterwards = afterwards

    def _flush_soon(self) -> None:
        # In nobody's context: the rows of several requests are scored, and answered, in one turn.
        asyncio.get_running_loop().call_soon(self._flush, context=Context())

    def _flush(self) -> None:
        # What is put meanwhile waits for the next turn: a caller with requests behind one another holds up nobody else.
        queue, self._queue = self._queue, deque()
        try:
            while queue:
                batch = self._next_batch(queue)
                if batch:
                    self._answer(batch)
        finally:
            if self._afterwards is not None:
                self._afterwards()

    def _answer(self, batch: Sequence[_Waiting[Rows, Results]]) -> None:
        try:
            scores = _checked(self._score(self._join_rows(batch)), len(batch))
        except HTTPProblem as refusal:  # it holds for every row, as when no decision can be recorded
            for one in batch:
                one.answer.set_exception(refusal)
        except Exception as error:  # noqa: BLE001 - it is handed to the one request that caused it
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:  # a row that cannot be scored must not fail its neighbours
                for one in batch:
                    self._answer([one])
        else:
            _hand_out(scores, batch)


class RemoteRunner(Runner[Rows, Results]):
    """Has another process score batches, at most `batches_in_flight` at once; the next batch grows meanwhile."""

    def __init__(
        self,
        score: Callable[[Rows], Awaitable[Results]],
        join: Callable[[Sequence[Rows]], Rows],
        settings: RunnerSettings,
        observe: Observer,
    ) -> None:
        super().__init__(join, settings, observe)
        self._score = score
        self._under_way: set[asyncio.Task[None]] = set()

    def _flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        while self._queue and len(self._under_way) < self._settings.batches_in_flight:
            if batch := self._next_batch(self._queue):
                task = asyncio.get_running_loop().create_task(self._answer(batch))
                self._under_way.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._flush()

    async def _answer(self, batch: Sequence[_Waiting[Rows, Results]]) -> None:
        try:
            scores = _checked(await self._score(self._join_rows(batch)), len(batch))
        except Exception as error:  # noqa: BLE001 - it is handed to the one request that caused it
            for one in batch:
                if one.answer.done():  # its caller has gone
                    continue
                if len(batch) == 1 or isinstance(error, HTTPProblem):
                    one.answer.set_exception(error)
                else:
                    await self._answer([one])
        else:
            _hand_out(scores, batch)


# A model service that answers with too few rows must not shift the scores of one applicant to another.
def _checked(scores: Results, rows: int) -> Results:
    if len(scores) != rows:
        raise RuntimeError(f"{len(scores)} scores for {rows} rows")
    return scores


def _hand_out(scores: Results, batch: Sequence[_Waiting[Rows, Results]]) -> None:
    if len(batch) == 1:
        if not batch[0].answer.done():
            batch[0].answer.set_result(scores)
        return
    for position, one in enumerate(batch):
        if not one.answer.done():
            one.answer.set_result(scores.take(slice(position, position + 1)))
