"""One time limit for many tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from features import Heartbeat

_LOOKS = 20
"""Looks at the running tasks within one time limit: a task is ended this share of the limit late, at the most."""


class DeadlineExceeded(Exception):  # noqa: N818 - what it is called elsewhere
    """The work was ended because it took too long."""


class Deadlines:
    """Ends what runs longer than a number of seconds.

    One timer looks at all tasks; `asyncio.timeout` sets and cancels one for each, at a fiftieth of a whole request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._looking = False
        self._heartbeat = Heartbeat("deadlines", periodic=False)

    async def within(self, work: Awaitable[None]) -> None:
        """Await the work in this task; DeadlineExceeded if it takes too long."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[object]", asyncio.current_task(loop))
        self._ends[task] = loop.time() + self._seconds
        if not self._looking:
            self._look_again(loop)
        try:
            await work
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() == 0:
                raise DeadlineExceeded from None
            raise
        finally:
            del self._ends[task]
            self._expired.discard(task)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = True
        self._heartbeat.beat()
        loop.call_later(self._seconds / _LOOKS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._heartbeat.guarded():
            now = loop.time()
            for task, end in self._ends.items():
                if end < now and task not in self._expired:
                    task.cancel()
                    self._expired.add(task)
        self._looking = False
        if self._ends:
            self._look_again(loop)
