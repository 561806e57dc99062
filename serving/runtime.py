"""The process of a worker: it accepts connections with our protocol, shares one memory arena, and holds its folder.

libuv, on which uvloop stands, takes one connection from a listening handle per turn of its loop (libuv's pull request
3696, since 1.45). With many busy connections a turn takes tens of milliseconds. The last of a thousand new callers,
perhaps a probe, then waits half a minute to be refused. Several handles on one socket take several at a turn.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import math
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobs.output import is_held, locked, take_lock
from serving.connections import Connection, FindDirect, Watch
from serving.preflight import is_serving_command
from serving.settings import Connections

_HANDLES = 16
"""Handles on one socket. A new connection wakes them all, which costs a few microseconds once."""
_BENTOML_CIPHERS = "TLSv1"
"""BentoML's default ciphers: at TLS 1.2 they leave AES-CBC with SHA-1 only."""
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2 with forward secrecy and authentication. OpenSSL's own choice for TLS 1.3 stays."""


class Front:
    """Makes the servers of a worker speak our protocol, within the limits of the settings.

    Parameters
    ----------
    timeout_seconds : time limit of a request; a worker that is told to stop has this time and 2 seconds more
    """

    def __init__(self, settings: Connections, timeout_seconds: float) -> None:
        self._watch = Watch(settings, timeout_seconds)
        self._timeout_seconds = timeout_seconds

    def install(self, loop: asyncio.AbstractEventLoop, direct: FindDirect) -> None:
        """Let the servers that uvicorn makes in this loop speak our protocol, with routes that answer directly."""
        self._watch.direct = direct
        # BentoML 1.4.39 has no option for uvicorn's protocol class, so the loop's method that makes servers is wrapped.
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
        # Without a limit uvicorn waits for open connections as long as they like, and BentoML for uvicorn a day.
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = math.ceil(self._timeout_seconds) + 2
        if context is not None and config.ssl_ciphers in (None, _BENTOML_CIPHERS):
            context.set_ciphers(_CIPHERS)


def accept_several(loop: asyncio.AbstractEventLoop) -> None:
    """Let each server of a uvloop loop listen with several handles on its socket."""
    # asyncio's own loops accept all waiting connections at a turn.
    if isinstance(loop, asyncio.BaseEventLoop):
        return
    create = loop.create_server

    async def create_server(
        protocol: Callable[[], asyncio.BaseProtocol], *place: Any, sock: socket.socket | None = None, **options: Any
    ) -> Any:
        if sock is None:
            return await create(protocol, *place, **options)
        # A copy of a Python socket that may block makes all of them block, those of other workers too: one of these
        # would stand still in accept() until somebody else calls.
        sock.setblocking(False)
        handles = [sock, *(sock.dup() for _ in range(_HANDLES - 1))]
        return _Servers([await create(protocol, sock=handle, **options) for handle in handles])

    loop.create_server = create_server  # type: ignore[method-assign, assignment]


class _Servers:
    """Presents several servers as one, with the two methods that uvicorn calls."""

    def __init__(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        self._servers = servers

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        for server in self._servers:
            await server.wait_closed()


_M_ARENA_MAX = -8
"""Value of M_ARENA_MAX in glibc's malloc.h."""


def share_one_arena() -> None:
    """Let all threads of this process allocate from one arena, where glibc is the C library."""
    # Arenas hardly ever shrink: half an hour of load made a worker grow by 2.0 % with many, by 1.6 % with one.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Give memory that is allocated no more back to the system, where glibc is the C library."""
    # Loading a model needs more for a moment than the model does, and glibc keeps it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at what was made: for the start, whose objects stay."""
    # Parsing a model makes a hundred thousand objects, and each full collection would walk through all there are.
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which BentoML passes the folder of metrics to its workers."""

_PARENT = "credit_scoring_services"
_held: list[int] = []


def use_own_metrics_folder() -> None:
    """Give a command that serves a folder of metrics of its own, instead of BentoML's one for the whole home."""
    if is_serving_command():
        BentoMLContainer.prometheus_multiproc_dir.set(str(_own_folder(Path(BentoMLContainer.bentoml_home.get()))))


def hold_metrics_folder(environment: Mapping[str, str]) -> None:
    """Hold the worker's folder of metrics until the worker ends."""
    # A worker outlives a parent that was killed: another service must not remove the folder under it.
    folder = environment.get(METRICS_VARIABLE)
    if folder:
        _hold(Path(folder))


@cache
def _own_folder(home: Path) -> Path:
    """Make a folder that is removed when this process ends, and remove the folders of services that have gone."""
    folder = _make_folder(home / _PARENT)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make_folder(parent: Path) -> Path:
    prefix = f"{os.getpid()}-"
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Under the lock no other start can see a folder between its making and its holding, and remove it.
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
    """Hold the lock of a folder until this process ends; the kernel frees it even after SIGKILL."""
    with suppress(OSError):  # without locks nobody removes it either
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _held.append(descriptor)
        take_lock(descriptor, shared=True)


def _is_held(folder: Path) -> bool:
    try:
        return is_held(folder)
    except OSError:  # not a folder of a service, or without locks
        return True
