"""Reading the body of a scoring request, within its limits."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from .errors import TooLarge, UnsupportedMedia
from .exchange import Exchange

_MOST_DRAINED = 32 << 20
_DRAIN_SECONDS = 1.0


async def read_json(exchange: Exchange, limit: int) -> bytes:
    """The body, declared as plain JSON and of at most `limit` bytes; a Problem if it is not."""
    _require_json(exchange.headers)
    declared = exchange.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        await _refuse(exchange.receive, limit)
    body, more = await _chunk(exchange.receive)
    chunks, size = [body], len(body)
    while more and size <= limit:
        body, more = await _chunk(exchange.receive)
        chunks.append(body)
        size += len(body)
    if size > limit:
        await _refuse(exchange.receive, limit, drain=more)
    return body if len(chunks) == 1 else b"".join(chunks)


def _require_json(headers: dict[bytes, bytes]) -> None:
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json" and media_type.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMedia("The body must be declared as application/json.")
    if headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia("A compressed body is not read.")


async def _refuse(receive: Receive, limit: int, *, drain: bool = True) -> None:
    """Refuse after reading to the end, within reason: a caller who is still sending would not see the answer."""
    drained = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while drain and drained <= _MOST_DRAINED:
                chunk, drain = await _chunk(receive)
                drained += len(chunk)
    raise TooLarge(f"The body is larger than {limit} bytes.")


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
