from __future__ import annotations

import asyncio

import pytest

from serving.deadlines import DeadlineExceeded, Deadlines


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
