"""The adaptive-batching runner: concurrent requests of one worker are scored together.

A request never waits for others to come. Those that arrived while the event loop was busy are scored in one call: alone
at low load, in growing batches as load rises.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from scoring import Scores

from .errors import Overloaded
from .settings import RunnerSettings

Rows = TypeVar("Rows")


class Runner(Generic[Rows]):
    """Scores single rows in batches.

    Parameters
    ----------
    score : scores a batch; one score per row
    join : makes one batch of several rows
    """

    def __init__(
        self, score: Callable[[Rows], Scores], join: Callable[[Sequence[Rows]], Rows], settings: RunnerSettings
    ) -> None:
        self._score = score
        self._join = join
        self._settings = settings
        self._waiting: deque[tuple[Rows, asyncio.Future[Scores]]] = deque()

    async def score(self, row: Rows) -> Scores:
        """The scores of one row; Overloaded if too many rows wait already."""
        if len(self._waiting) >= self._settings.max_waiting:
            raise Overloaded(
                "Too many requests are waiting.",
                headers={"Retry-After": str(self._settings.retry_after_seconds)},
            )
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        answer: asyncio.Future[Scores] = loop.create_future()
        self._waiting.append((row, answer))
        return await answer

    def _flush(self) -> None:
        size = min(len(self._waiting), self._settings.max_batch_rows)
        batch = [self._waiting.popleft() for _ in range(size)]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answer([(row, answer) for row, answer in batch if not answer.done()])

    def _answer(self, batch: Sequence[tuple[Rows, asyncio.Future[Scores]]]) -> None:
        if not batch:
            return
        try:
            scores = self._scored([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is handed to the one request that caused it
            self._answer_apart(batch, error)
        else:
            for position, (_, answer) in enumerate(batch):
                answer.set_result(scores.take(slice(position, position + 1)))

    def _scored(self, rows: Sequence[Rows]) -> Scores:
        scores = self._score(self._join(rows))
        if len(scores) != len(rows):
            raise RuntimeError(f"{len(scores)} scores for {len(rows)} rows")
        return scores

    def _answer_apart(self, batch: Sequence[tuple[Rows, asyncio.Future[Scores]]], error: Exception) -> None:
        """A row that cannot be scored must not fail its neighbours: score each alone."""
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for one in batch:
            self._answer([one])
