"""Servers on loopback whose answers a test writes down beforehand."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class End(Enum):
    """How `broken_server` ends a connection instead of answering a request."""

    CLOSE = auto()
    RESET = auto()


Script = tuple[bytes | End, ...]

_ACCEPT_SECONDS = 600


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


@dataclass
class ScriptedServer:
    """Gives the answers of a list in turn, whatever is asked, and keeps what it was asked."""

    url: str
    answers: list[Response] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        headers = dict(request.headers)
        self.received.append(Received(request.method, request.url.path, headers, await request.body()))
        return self.answers.pop(0)


def listener() -> socket.socket:
    """A socket that already accepts connections on a free port, so that nobody needs to wait for its server."""
    return socket.create_server(("127.0.0.1", 0))


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    with listener() as listening:
        scripted = ScriptedServer(url_of(listening))
        app = Starlette(routes=[Route("/{path:path}", scripted.answer, methods=["GET", "POST"])])
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield scripted
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def broken_server(*scripts: Script) -> Iterator[str]:
    """One script for each connection: what each request on it brings, after which the connection is closed."""
    with listener() as listening:
        listening.settimeout(_ACCEPT_SECONDS)
        thread = threading.Thread(target=_follow, args=(listening, scripts))
        thread.start()
        try:
            yield url_of(listening)
        finally:
            thread.join()


def _follow(listening: socket.socket, scripts: tuple[Script, ...]) -> None:
    for script in scripts:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as stream:
            for step in script:
                _read_request(stream)
                _take(connection, step)


def _read_request(stream: Any) -> None:
    length = 0
    while (line := stream.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    stream.read(length)


def _take(connection: socket.socket, step: bytes | End) -> None:
    match step:
        case bytes():
            connection.sendall(step)
        case End.RESET:
            # A linger time of 0 makes close() send RST.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
