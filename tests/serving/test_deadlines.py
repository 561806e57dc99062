from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from serving.exchange import DeadlineExceeded, Deadlines

FAILURES = ("credit_scoring_thread_failures_total", {"thread": "deadlines"})


async def _soon() -> None:
    await asyncio.sleep(0)


async def _never() -> None:
    await asyncio.Event().wait()


def test_what_ends_in_time_is_left_alone() -> None:
    asyncio.run(Deadlines(5).within(_soon()))


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(DeadlineExceeded):
        asyncio.run(Deadlines(0.02).within(_never()))


def test_a_task_goes_on_after_its_work_was_ended() -> None:
    async def run() -> list[str]:
        deadlines, said = Deadlines(0.02), []
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await deadlines.within(_never())
            said.append("went on")
            await _soon()
        return said

    assert asyncio.run(run()) == ["went on", "went on"]


def test_only_the_one_that_takes_too_long_is_ended() -> None:
    async def run() -> list[object]:
        loop, deadlines, over = asyncio.get_running_loop(), Deadlines(3600), asyncio.Event()

        async def until_the_first_is_over() -> None:
            await over.wait()

        first = asyncio.ensure_future(deadlines.within(_never()))
        await _soon()
        real = loop.time
        loop.time = lambda: real() + 3601  # type: ignore[method-assign]
        second = asyncio.ensure_future(deadlines.within(until_the_first_is_over()))
        await _soon()
        deadlines._look(loop)
        over.set()
        return await asyncio.gather(first, second, return_exceptions=True)

    ended, went_on = asyncio.run(run())
    assert isinstance(ended, DeadlineExceeded)
    assert went_on is None


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def run() -> None:
        task = asyncio.ensure_future(Deadlines(5).within(_never()))
        await _soon()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_an_error_of_the_work_is_passed_on() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(Deadlines(5).within(fail()))


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it waits: what is waited for comes at once, on the second."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        looked = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> object:
            found = looked(0)
            if not found and timeout:
                self.now += timeout
            return found

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("begun", [0.0, 0.3, 4.9, 9.6])
def test_what_begins_between_two_looks_is_ended_a_twentieth_of_the_limit_late_at_most(begun: float) -> None:
    """Of a limit of ten seconds: somebody else's work has the looks going since the start."""

    async def run() -> float:
        deadlines = Deadlines(10)
        loop = asyncio.get_running_loop()

        async def other() -> None:
            with pytest.raises(DeadlineExceeded):
                await deadlines.within(_never())

        before = asyncio.ensure_future(other())
        await asyncio.sleep(begun)
        start = loop.time()
        with pytest.raises(DeadlineExceeded):
            await deadlines.within(_never())
        await before
        return loop.time() - start

    with asyncio.Runner(loop_factory=Clock) as runner:
        took = runner.run(run())
    assert 10 <= took <= 10.5 + 1e-6


def test_the_looks_go_on_after_one_that_failed() -> None:
    class Unruly(asyncio.Task[None]):
        refused = False

        def cancel(self, msg: object = None) -> bool:
            if not self.refused:
                self.refused = True
                raise RuntimeError
            return super().cancel(msg)

    async def run() -> tuple[bool, float | None]:
        deadlines = Deadlines(0.02)
        unruly = Unruly(deadlines.within(_never()))
        with pytest.raises(DeadlineExceeded):
            await deadlines.within(_never())
        with pytest.raises(DeadlineExceeded):
            await unruly
        return unruly.refused, REGISTRY.get_sample_value(*FAILURES)

    before = REGISTRY.get_sample_value(*FAILURES) or 0
    assert asyncio.run(run()) == (True, before + 1)
