"""Taking connections as quickly as they come.

libuv, on which uvloop stands, takes one connection from a listening handle per turn of its loop (libuv's pull request
3696, since 1.45). With many busy connections a turn takes tens of milliseconds, and the last of a thousand new callers,
perhaps a probe, waits half a minute until it is even refused. Several handles on one socket take several at a turn.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

_HANDLES = 16
"""A new connection wakes them all: that costs it a few microseconds, once."""


def accept_several(loop: asyncio.AbstractEventLoop) -> None:
    """Let the servers that a loop of libuv makes of a socket listen with several handles.

    asyncio's own loops take all connections that wait, and are left as they are.
    """
    if isinstance(loop, asyncio.BaseEventLoop):
        return
    create = loop.create_server

    async def create_server(
        protocol: Callable[[], asyncio.BaseProtocol], *place: Any, sock: socket.socket | None = None, **options: Any
    ) -> Any:
        if sock is None:
            return await create(protocol, *place, **options)
        handles = [sock, *(sock.dup() for _ in range(_HANDLES - 1))]
        return _Servers([await create(protocol, sock=handle, **options) for handle in handles])

    loop.create_server = create_server  # type: ignore[method-assign, assignment]


class _Servers:
    """Several servers as one, as far as uvicorn asks for it."""

    def __init__(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        self._servers = servers

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        for server in self._servers:
            await server.wait_closed()
