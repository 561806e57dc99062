"""Reading the body of a scoring request, within its limits."""

from __future__ import annotations

from collections.abc import Hashable

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from .errors import TooLarge, UnsupportedMedia
from .exchange import Exchange
from .shares import Shares


class NoRoom(Exception):  # noqa: N818 - it becomes a Problem
    """The bodies that are still coming hold all the memory they may."""


async def read_json(exchange: Exchange, limit: int, room: Shares, caller: Hashable) -> bytes:
    """The body, declared as plain JSON and of at most `limit` bytes; a Problem if it is not, NoRoom where it must wait.

    Of a body that is refused the connection reads the rest, so that the caller sees the answer.
    """
    _require_json(exchange.headers)
    declared = exchange.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    exchange.reading = True
    body, more = await _chunk(exchange.receive)
    if more:
        body = await _rest(body, exchange.receive, limit, room, caller)
    exchange.reading = False
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _rest(body: bytes, receive: Receive, limit: int, room: Shares, caller: Hashable) -> bytes:
    chunks, size, more, held = [body], len(body), True, 0
    try:
        while more and size <= limit:
            if not room.take(caller, size - held):
                raise NoRoom
            held = size
            body, more = await _chunk(receive)
            chunks.append(body)
            size += len(body)
    finally:
        room.give(caller, held)
    return b"".join(chunks)


def _require_json(headers: dict[bytes, bytes]) -> None:
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json" and media_type.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMedia("The body must be declared as application/json.")
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia("A compressed body is not read.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.")


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
