"""Taking connections: as quickly as they come, with our protocol, within the limits of the settings.

libuv, on which uvloop stands, takes one connection from a listening handle per turn of its loop (libuv's pull request
3696, since 1.45). With many busy connections a turn takes tens of milliseconds, and the last of a thousand new callers,
perhaps a probe, waits half a minute until it is even refused. Several handles on one socket take several at a turn.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import math
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobs.output import is_held, locked, take_lock
from serving.connections import Connection, Watch
from serving.preflight import is_serving_command
from serving.settings import Connections

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


_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def share_one_arena() -> None:
    """Let all threads of this process allocate from one arena, where glibc is the C library.

    glibc gives threads arenas of their own, which hardly ever shrink. What that makes of a worker is in
    docs/explanation/serving.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which BentoML tells workers of the folder."""

_PARENT = "credit_scoring_services"
_held: list[int] = []


def keep_apart() -> None:
    """Have BentoML use a folder of this command's own, if it is one that serves."""
    if is_serving_command():
        BentoMLContainer.prometheus_multiproc_dir.set(str(_own(Path(BentoMLContainer.bentoml_home.get()))))


def hold_shared(environment: Mapping[str, str]) -> None:
    """Keep the folder, in a worker: it is needed as long as one worker lives, also one whose parent was killed."""
    folder = environment.get(SHARED_VARIABLE)
    if folder:
        _hold(Path(folder))


@cache
def _own(home: Path) -> Path:
    """A new folder, which is removed at the end of this process; those of services that have gone are removed now."""
    folder = _made(home / _PARENT)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _made(parent: Path) -> Path:
    prefix = f"{os.getpid()}-"
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(parent):
            for folder in parent.iterdir():
                if not _is_held(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            _hold(made)
    except OSError:  # a home that is read-only, as in the image, or on a file system without locks
        return Path(tempfile.mkdtemp(prefix=f"credit-scoring-{prefix}"))
    return made


def _hold(folder: Path) -> None:
    """Hold a folder to the end of this process, however that comes."""
    with suppress(OSError):  # without locks nobody removes it either
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _held.append(descriptor)
        take_lock(descriptor, shared=True)


def _is_held(folder: Path) -> bool:
    try:
        return is_held(folder)
    except OSError:  # not a folder of a service, or without locks
        return True
