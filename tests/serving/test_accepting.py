"""How many connections are taken at a turn of the loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from serving.runtime import accept_several

uvloop = pytest.importorskip("uvloop")
CALLERS = 16


class Taken(asyncio.Protocol):
    """Counts connections."""

    count = 0

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        Taken.count += 1


async def _turns(prepare: Callable[[asyncio.AbstractEventLoop], None]) -> int:
    """Turns of the loop until callers who came all at once have been taken."""
    loop, Taken.count, turns = asyncio.get_running_loop(), 0, 0
    prepare(loop)
    listening = socket.create_server(("127.0.0.1", 0), backlog=CALLERS)
    server = await loop.create_server(Taken, sock=listening, backlog=CALLERS)
    with ExitStack() as callers:
        for _ in range(CALLERS):
            callers.enter_context(socket.create_connection(listening.getsockname()))
        while Taken.count < CALLERS:
            await asyncio.sleep(0)
            turns += 1
    address = listening.getsockname()
    server.close()
    await server.wait_closed()
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    return turns


def test_the_loop_by_itself_takes_them_one_by_one() -> None:
    assert uvloop.run(_turns(lambda _: None)) >= CALLERS


def test_several_are_taken_at_once_and_none_after_the_end() -> None:
    assert uvloop.run(_turns(accept_several)) < CALLERS / 2


def test_a_worker_that_starts_never_lets_the_shared_socket_block() -> None:
    # Another worker that accepts on the same socket would stand still until the next caller.
    async def blocking() -> set[bool]:
        loop, found = asyncio.get_running_loop(), set()
        create = loop.create_server

        async def observed(*arguments: object, sock: socket.socket) -> asyncio.AbstractServer:
            found.add(os.get_blocking(first.fileno()))
            return await create(*arguments, sock=sock)  # type: ignore[arg-type]

        with socket.create_server(("127.0.0.1", 0)) as first:
            first.setblocking(False)
            loop.create_server = observed  # type: ignore[method-assign, assignment]
            accept_several(loop)
            server = await loop.create_server(Taken, sock=socket.socket(fileno=os.dup(first.fileno())))
            server.close()
            await server.wait_closed()
        return found

    assert uvloop.run(blocking()) == {False}


def test_the_loop_of_asyncio_is_left_alone() -> None:
    async def made() -> tuple[object, object]:
        loop = asyncio.get_running_loop()
        before = loop.create_server
        accept_several(loop)
        return before, loop.create_server

    before, after = asyncio.run(made())
    assert before == after
