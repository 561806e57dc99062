"""Taking connections: as quickly as they come, with our protocol, within the limits of the settings.

libuv, on which uvloop stands, takes one connection from a listening handle per turn of its loop (libuv's pull request
3696, since 1.45). With many busy connections a turn takes tens of milliseconds, and the last of a thousand new callers,
perhaps a probe, waits half a minute until it is even refused. Several handles on one socket take several at a turn.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .connections import Connection, Watch
from .settings import Connections

_HANDLES = 16
"""A new connection wakes them all: that costs it a few microseconds, once."""
_BENTOML_CIPHERS = "TLSv1"
"""What BentoML passes where nobody chose: at TLS 1.2 that is AES-CBC with SHA-1 only."""
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated. OpenSSL has the right ones for TLS 1.3."""


class Front:
    """What stands between the sockets of a worker and the boundary.

    Parameters
    ----------
    timeout_seconds : of a request; the worker ends this long after it was told to, and little later
    """

    def __init__(self, settings: Connections, timeout_seconds: float) -> None:
        self._watch = Watch(settings, timeout_seconds)
        self._timeout_seconds = timeout_seconds

    def stand(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the servers that uvicorn makes in this loop speak our protocol. BentoML has no option for any of it."""
        create = loop.create_server

        async def create_server(
            protocol: Callable[[], asyncio.BaseProtocol], *place: Any, **options: Any
        ) -> asyncio.AbstractServer:
            made = protocol()
            if isinstance(made, HttpToolsProtocol):
                self._configure(made.config, options.get("ssl"))
            return await create(protocol, *place, **options)

        loop.create_server = create_server  # type: ignore[method-assign, assignment]
        accept_several(loop)

    def _configure(self, config: Config, context: ssl.SSLContext | None) -> None:
        config.http_protocol_class = partial(Connection, watch=self._watch)  # type: ignore[assignment]
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = math.ceil(self._timeout_seconds) + 2
        if context is not None and config.ssl_ciphers in (None, _BENTOML_CIPHERS):
            context.set_ciphers(_CIPHERS)


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
