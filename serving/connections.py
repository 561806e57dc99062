"""One connection: it frames requests before uvicorn's parser, and keeps the limits of size and time.

uvicorn's parser treats the body of a request with `Upgrade` as the next request (uvicorn 2722, httptools 124), takes
trailers for headers, and has no limits. So a head is read whole within its limits and checked before the parser sees
it. A chunked body reaches the parser without extensions and trailers. One request never gets two answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from pydantic_core import to_json
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.direct import DirectRequest, DirectRoute, Fields
from serving.exchange import new_id
from serving.framing import Chunks, Unreadable, UsualHead, UsualHeads, checked_head
from serving.problems import MEDIA_TYPE, problem
from serving.settings import Connections

_LOGGER = logging.getLogger("bentoml.credit_scoring")
FindDirect = Callable[[bytes], DirectRoute | None]
"""Finds the route that answers requests for a target directly."""

_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
"""Fields in which a proxy tells who calls; uvicorn reads them."""
_STOPPING_SECONDS = 1.0
"""Seconds that a caller has for another request once the service was told to stop."""
_LINGER_SECONDS = 2.0
"""Seconds for which the rest of a refused request is read, so that the caller sees the answer and not a reset."""
_MOST_DISCARDED = 64 << 20
"""Bytes of a refused request that are read; then the connection is cut off."""
_LOOK_SECONDS = 0.5
"""Seconds between two looks at all connections."""


class Watch:
    """Looks at all connections of a worker twice a second, and ends those that are overdue.

    Parameters
    ----------
    timeout_seconds : time for a body, and for all open requests once the service was told to stop
    """

    def __init__(self, settings: Connections, timeout_seconds: float) -> None:
        self.settings = settings
        self.timeout_seconds = timeout_seconds
        self._connections: set[Connection] = set()
        self._looking = False
        self._end: float | None = None
        self._next_line = 0.0
        self._unlogged = 0
        self.direct: FindDirect = lambda _: None

    def begin(self, connection: Connection) -> None:
        """Watch this connection from now on."""
        self._connections.add(connection)
        if not self._looking:
            self._looking = True
            connection.loop.call_later(_LOOK_SECONDS, self._look, connection.loop)

    def end(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)

    def stop(self, now: float) -> None:
        """Cut off all connections after the time limit and one second."""
        self._end = self._end or now + self.timeout_seconds + 1.0

    def note_unreadable(self, connection: Connection, detail: str) -> None:
        """Log a request that was refused before the boundary; at most one line a second."""
        now = connection.loop.time()
        if now < self._next_line:
            self._unlogged += 1
            return
        peer = connection.client[0] if connection.client else "an unknown address"
        _LOGGER.warning("unreadable request from %s: %s (%d more since the last line)", peer, detail, self._unlogged)
        self._next_line, self._unlogged = now + 1.0, 0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        over = self._end is not None and now > self._end
        for connection in list(self._connections):
            if over:
                connection.transport.abort()
            else:
                connection.look(now)
        self._bound_unread()
        self._looking = bool(self._connections)
        if self._looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _bound_unread(self) -> None:
        unread = [(connection.unread, connection) for connection in self._connections]
        total = sum(size for size, _ in unread)
        if total > self.settings.unread_bytes:
            # The largest first: whoever reads slowly goes, and callers with a small answer are spared.
            for size, connection in sorted(unread, key=lambda pair: pair[0], reverse=True):
                connection.transport.abort()
                total -= size
                if total <= self.settings.unread_bytes:
                    return


class Connection(HttpToolsProtocol):
    """uvicorn's protocol behind a reader of heads and bodies, one request at a time."""

    def __init__(self, *args: Any, watch: Watch, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watch = watch
        self._settings = watch.settings
        self._read = self._read_head
        self._partial_head = b""  # bytes of a head that is not whole yet
        self._usual = UsualHeads()
        self._last_usual: tuple[UsualHead, DirectRoute] | None = None  # of those that were answered directly
        self._body_left = 0  # bytes of a sized body that are still to come
        self._chunks = Chunks(0)
        self._held = b""  # bytes behind the request that is being answered
        self._discarded = 0
        self._lingering = False
        self._half_closed = False
        self._deadline: float | None = None
        self._unread_since: float | None = None
        self._idle_until: float | None = None
        self._direct: DirectRequest | None = None  # that is being answered
        self._stopping = False  # each answer is the last on its connection

    @property
    def unread(self) -> int:
        """Return the number of answer bytes that the caller has not read yet."""
        return self.transport.get_write_buffer_size()

    @property
    def _answering(self) -> bool:
        return self._direct is not None or self._in_cycle

    @property
    def _in_cycle(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first head, and the watch."""
        super().connection_made(transport)
        proxied = self.config.loaded_app if isinstance(self.config.loaded_app, ProxyHeadersMiddleware) else None
        self._told_by_proxy = (
            proxied is not None and self.client is not None and self.client[0] in proxied.trusted_hosts
        )
        self.transport = cast("asyncio.Transport", _LingeringTransport(transport, self))
        self._deadline = self.loop.time() + self._settings.head_seconds
        self._watch.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the watch and free what was held."""
        self._watch.end(self)
        self._held = self._partial_head = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read up to the end of one request; bytes behind it wait until it is answered."""
        self._idle_until = None
        if self._lingering:
            self._count_discarded(len(data))
        elif self._held:
            self._hold(self._held + data)
        else:
            self._take(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep a half-closed connection open if a whole request on it still waits for its answer."""
        # asyncio closes a TLS transport at the end of what comes, whatever is returned here.
        if self.scheme == "https" or self._lingering or not self._answering or not self.at_rest:
            return None
        self._half_closed = True
        return True

    @property
    def at_rest(self) -> bool:
        """Whether the connection is between two requests."""
        return self._read == self._read_head and not self._partial_head

    def on_headers_complete(self) -> None:
        """Begin the answer, and note whether the connection closes after it."""
        if self.url.startswith(b"//"):  # httptools would take the first segment for a host
            self.url = b"http://localhost" + self.url
        super().on_headers_complete()
        # Whoever waits for "100 Continue" and is refused may or may not send the body (RFC 9110, 10.1.1).
        if self.expect_100_continue or self._stopping:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Read the bytes that waited behind the answered request, or wait for the next one."""
        # In place of uvicorn's: a timer for each answer would cost more than a look at all connections.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        held, self._held = self._held, b""
        if held:
            self._take(held)
        else:
            self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self._half_closed and not self._answering:
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection behind its next answer, or soon if nothing is asked."""
        # An idle one is not closed at once: its caller may just be sending, and would have to send again.
        now = self.loop.time()
        self._watch.stop(now)
        self._stopping = True
        if self._in_cycle:
            self.cycle.keep_alive = False
        elif not self._answering:
            self._idle_until = now + _STOPPING_SECONDS

    def look(self, now: float) -> None:
        """Cut off or refuse a caller who is overdue."""
        if not self.unread:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self._settings.unread_seconds:
            self.transport.abort()
            return
        if self._direct is not None:
            self._direct.expire()
        if self._deadline is not None and now > self._deadline:
            self._expire()
        elif self._idle_until is not None and now > self._idle_until and not self._answering:
            self.transport.close()

    def _expire(self) -> None:
        if self._lingering or self.transport.is_closing():
            self.transport.abort()
        elif self._partial_head:
            self._refuse(Unreadable(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not come in time."))
        elif not self._answering:
            self.transport.abort()

    def _take(self, data: bytes) -> None:
        try:
            while data and not self.transport.is_closing():
                data = self._read(data)
        except Unreadable as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError:
            self._refuse(Unreadable(HTTPStatus.BAD_REQUEST, "The request is not HTTP/1.1."))

    def _read_head(self, data: bytes) -> bytes:
        if self._answering:
            self._hold(data)
            return b""
        if self._deadline is None:
            self._deadline = self.loop.time() + self._settings.head_seconds
        known, data = len(self._partial_head), self._partial_head + data if self._partial_head else data
        start = 2 if data.startswith(b"\r\n") else 0  # RFC 9112, 2.2
        end = data.find(b"\r\n\r\n", max(start, known - 3), self._settings.head_bytes)
        if end < 0:
            if len(data) >= self._settings.head_bytes:
                raise Unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.")
            self._partial_head = data
            return b""
        self._partial_head = b""
        head, rest = data[start : end + 4], data[end + 4 :]
        self._direct = self._direct_request(head, len(rest))
        if self._direct is not None:
            self._deadline = None
            return self._direct.begin(rest)
        head, length = checked_head(head, self._settings.head_fields)
        self.parser.feed_data(head)
        self._expect(length)
        return rest

    def _direct_request(self, head: bytes, came: int) -> DirectRequest | None:
        """Return the request if it can be answered directly; `came` are the bytes behind its head."""
        read = None if self.flow.write_paused else self._usual.read(head)
        if read is None:
            return None
        usual, length = read
        if self._last_usual is None or self._last_usual[0] is not usual:
            route = self._direct_route(usual)
            if route is None:
                return None
            self._last_usual = usual, route
        route = self._last_usual[1]
        size = route.size(length, came)
        return DirectRequest(route, usual.fields, size, self.client, self._answer_directly) if size else None

    def _direct_route(self, usual: UsualHead) -> DirectRoute | None:
        """Return the route that answers requests with a head directly; the length of their bodies is not judged."""
        route = self._watch.direct(usual.target)
        # The length is one more field.
        if route is None or len(usual.fields) >= self._settings.head_fields or not route.takes(usual.fields):
            return None
        return None if self._told_by_proxy and not _FORWARDED.isdisjoint(usual.fields) else route

    def _answer_directly(self, status: int, fields: Fields, body: bytes) -> None:
        self._direct = None
        if self.transport.is_closing():
            return
        lines = [b"%b: %b\r\n" % field for field in (*self.server_state.default_headers, *fields)]
        end = b"connection: close\r\n\r\n" if self._stopping else b"\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], *lines, end, body)))
        if self._stopping:
            self.transport.close()
        self.on_response_complete()

    def _expect(self, length: int | None) -> None:
        """Prepare to read the body, sized or chunked, and set its time limit."""
        # The boundary answers a late body; this limit cuts off what is still sent after an early answer.
        if length == 0:
            self._deadline = None
            return
        self._deadline = self.loop.time() + self._watch.timeout_seconds
        self._discarded = 0
        if length is None:
            self._chunks, self._read = Chunks(self._settings.head_bytes), self._read_chunked
        else:
            self._body_left, self._read = length, self._read_sized

    def _read_sized(self, data: bytes) -> bytes:
        piece = data if len(data) <= self._body_left else data[: self._body_left]
        self._body_left -= len(piece)
        if not self._body_left:
            self._finish()
        self._feed(piece)
        return data[len(piece) :]

    def _read_chunked(self, data: bytes) -> bytes:
        body, rest = self._chunks.take(data)
        if rest is not None:
            self._finish()
        if body:
            # Framed anew for httptools: extensions and trailers of the caller never reach it.
            self._feed(b"%x\r\n%b\r\n" % (len(body), body))
        if rest is None:
            self._count_discarded(len(data) - len(body))
            return b""
        self.parser.feed_data(b"0\r\n\r\n")
        return rest

    def _finish(self) -> None:
        self._read, self._deadline = self._read_head, None
        if not self._answering:  # the answer came before the end of the body
            self._idle_until = self.loop.time() + self.timeout_keep_alive

    def _feed(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if not self._answering:
            self._count_discarded(len(data))

    def _count_discarded(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MOST_DISCARDED:
            self.transport.abort()

    def _hold(self, data: bytes) -> None:
        self._held = data
        self.flow.pause_reading()

    def _refuse(self, refusal: Unreadable) -> None:
        """Refuse a request that never reaches the boundary, unless an answer has begun, and close."""
        self._watch.note_unreadable(self, refusal.detail)
        begun = self._in_cycle and self.cycle.response_started
        if self._in_cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not begun:
            self.transport.write(_refusal(refusal))
        self.linger()

    def linger(self) -> None:
        """Send no more, and read on for two seconds before closing."""
        # A close with unread bytes makes TCP send a reset, which can destroy the answer at the caller (RFC 9112, 9.6).
        if self._lingering:
            return
        self._lingering = True
        self._held = self._partial_head = b""
        self._deadline = self.loop.time() + _LINGER_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def closing(self) -> None:
        """Start the time limit for sending what is left before the transport closes."""
        self._deadline = self.loop.time() + self._settings.unread_seconds

    @property
    def is_lingering(self) -> bool:
        """Whether the connection sends no more and is only read to its end."""
        return self._lingering


class _LingeringTransport:
    """A transport that reads on for a moment before it closes, if a body is still coming."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._connection.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        if self._connection.is_lingering or self._transport.is_closing():
            return
        if self._connection.at_rest:
            self._connection.closing()
            self._transport.close()
        else:
            self._connection.linger()


def _refusal(refusal: Unreadable) -> bytes:
    request_id = new_id()
    body = to_json(problem(refusal.status, refusal.detail, request_id))
    head = (
        f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
