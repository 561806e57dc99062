"""One HTTP exchange: the request, its body, its time limit, and the answer with its request id."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections import Counter
from collections.abc import Awaitable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from http import HTTPStatus
from random import getrandbits
from types import MappingProxyType
from typing import cast

from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from jobs.heartbeat import Heartbeat
from serving.problems import MEDIA_TYPE, BadRequest, HTTPProblem, TooLarge, UnsupportedMedia, problem

_LOGGER = logging.getLogger("bentoml.credit_scoring")

FAILED = "The request could not be answered; the server's log says why."
"""Detail of an answer where the service is at fault."""

JSON, SVG, PROBLEM = b"application/json", b"image/svg+xml", MEDIA_TYPE.encode()
ARROW, PARQUET, CSV = b"application/vnd.apache.arrow.stream", b"application/vnd.apache.parquet", b"text/csv"
TABLES = (ARROW, PARQUET, CSV)
"""The media types of batches beside JSON, as bodies and as answers."""

_REQUEST_ID: ContextVar[str] = ContextVar("request_id")
_LEGAL_QUALITY = re.compile(rb"0(\.\d{0,3})?|1(\.0{0,3})?")
_LEGAL_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_SINGLE = (
    *(b"content-encoding", b"content-length", b"content-type", b"expect", b"host"),
    *(b"idempotency-key", b"x-request-id"),
)
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is no such route.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The route does not answer this method.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service is not ready.",
    HTTPStatus.INTERNAL_SERVER_ERROR: FAILED,
}


class Exchange:
    """A request and its answer. The answer carries the request id; an error becomes an RFC 9457 problem.

    Attributes
    ----------
    scope, receive : of the ASGI request
    headers : of the request, names in lower case
    request_id : the caller's id if it is short and plain, else a new one
    status : status of the answer; None as long as there is none
    reading : whether the body is still coming
    """

    __slots__ = ("_replacement", "_send", "headers", "reading", "receive", "request_id", "scope", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # the first of several
        self.request_id = begin_request(self.headers.get(b"x-request-id"))
        self.status: int | None = None
        self.reading = False
        self._send = send
        self._replacement: bytes | None = None

    def require_single(self) -> None:
        """Raise BadRequest if a header field that the service reads came more than once."""
        # A proxy in front may have read another of the values than the service does, and decided by it.
        if len(self.headers) < len(self.scope["headers"]):
            seen = Counter(name for name, _ in self.scope["headers"])
            repeated = sorted(name.decode("ascii") for name in _SINGLE if seen[name] > 1)
            if repeated:
                raise BadRequest(f"The header field {repeated[0]} was sent more than once.")

    def media_type(self, readable: Sequence[bytes]) -> bytes:
        """Return the media type of the body; UnsupportedMedia unless it is one of `readable` and not compressed."""
        media_type = self.headers.get(b"content-type", b"")
        if media_type not in readable:
            media_type = media_type.partition(b";")[0].strip().lower()
            if media_type not in readable:
                raise UnsupportedMedia(f"The body must be declared as {_either(readable)}.")
        # A small compressed body can unfold to any size: the limits would have to hold for what comes out.
        if self.headers.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
            raise UnsupportedMedia("A compressed body is not read.")
        return media_type

    def preferred(self, offered: tuple[bytes, ...]) -> bytes:
        """Return the media type that the caller would rather have; the first where several or none will do."""
        if len(offered) == 1 or b"accept" not in self.headers:
            return offered[0]
        return _preferred(b",".join(value for name, value in self.scope["headers"] if name == b"accept"), offered)

    async def answer(self, body: bytes, *headers: tuple[bytes, bytes], media_type: bytes = JSON) -> None:
        """Send 200 and a whole body."""
        await self._answer(HTTPStatus.OK, body, [*fields_of(media_type, body, self.request_id), *headers])

    async def refuse(self, refusal: HTTPProblem) -> None:
        """Send the problem, unless an answer has begun."""
        if self.status is None:
            body = to_json(refusal.content(self.request_id))
            await self._answer(refusal.status, body, fields_of(PROBLEM, body, self.request_id, refusal.headers))

    async def _answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def send(self, message: Message) -> None:
        """Pass on a message of BentoML's application; the body of an error is replaced by a problem."""
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and self._replacement is not None:
            if message.get("more_body"):
                return
            message = {"type": "http.response.body", "body": self._replacement}
        await self._send(message)

    def _start(self, message: Message) -> None:
        self.status = message["status"]
        headers = MutableHeaders(raw=list(message.get("headers", [])))
        # BentoML 1.4.39 and Starlette have five shapes of error between them, some of which are no JSON object.
        if message["status"] >= HTTPStatus.BAD_REQUEST and headers.get("content-type") != MEDIA_TYPE:
            status = HTTPStatus(message["status"])
            self._replacement = to_json(problem(status, _DETAILS.get(status, status.description), self.request_id))
            headers["Content-Type"] = MEDIA_TYPE
            headers["Content-Length"] = str(len(self._replacement))
        headers["X-Request-ID"] = self.request_id
        message["headers"] = headers.raw


@lru_cache(maxsize=64)  # callers send the same few, with every request
def _preferred(accept: bytes, offered: tuple[bytes, ...]) -> bytes:
    ranges = _qualities(accept)
    return max(offered, key=lambda one: _quality(ranges, one))  # the first of several that are largest


def _either(media_types: Sequence[bytes]) -> str:
    *first, last = (one.decode("ascii") for one in media_types)
    return f"{', '.join(first)} or {last}" if first else last


def _qualities(accept: bytes) -> dict[bytes, float]:
    """Return the quality of each media range in an Accept field; 0 where it is malformed.

    >>> _qualities(b"image/svg+xml; q=0.5, */*")
    {b'image/svg+xml': 0.5, b'*/*': 1.0}
    """
    found = {}
    for part in accept.lower().split(b","):
        media_range, *parameters = (one.strip() for one in part.split(b";"))
        given = next((one[2:] for one in parameters if one.startswith(b"q=")), b"1")
        found[media_range] = float(given) if _LEGAL_QUALITY.fullmatch(given) else 0.0
    return found


def _quality(ranges: Mapping[bytes, float], media_type: bytes) -> float:
    """Return the quality of a media type: that of the range which names it most closely (RFC 9110, 12.5.1)."""
    kind = media_type.partition(b"/")[0] + b"/*"
    return next((ranges[one] for one in (media_type, kind, b"*/*") if one in ranges), 0.0)


def request_id() -> str:
    """Return the id of the request that is being answered; a new id for a call from the service's own process."""
    return _REQUEST_ID.get(None) or new_id()


def begin_request(given: bytes | None) -> str:
    """Return the id of a request, the one that its caller gave if it is short and plain, for `request_id` too."""
    made = given.decode("ascii") if given is not None and _LEGAL_REQUEST_ID.fullmatch(given) else new_id()
    _REQUEST_ID.set(made)
    return made


def fields_of(
    media_type: bytes, body: bytes, request_id: str, more: Mapping[str, str] = MappingProxyType({})
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of an answer with this body."""
    own = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    return own + [(name.lower().encode(), value.encode()) for name, value in more.items()]


def log_error(error: BaseException, request_id: str) -> None:
    """Log the place and the type of an error, never its message: it may hold an applicant's value."""
    place = "".join(traceback.format_tb(error.__traceback__))
    _LOGGER.error("%s while answering request %s\n%s", type(error).__name__, request_id, place)


def new_id() -> str:
    """Return an id for a request that brings none."""
    # No secret: an id names a record, and os.urandom would be a system call for every request.
    return f"{getrandbits(128):032x}"


_LOOKS = 20
"""Looks at the running tasks within one time limit: a task ends at most one twentieth of the limit late."""


class DeadlineExceeded(Exception):  # noqa: N818 - what it is called elsewhere
    """The work took longer than its time limit and was cancelled."""


class Deadlines:
    """Cancels work that runs longer than `seconds`.

    One timer looks at all tasks. `asyncio.timeout` would set and cancel a timer for each, at 2 % of a whole request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._looking = False
        self._heartbeat = Heartbeat("deadlines", periodic=False)

    async def within(self, work: Awaitable[None]) -> None:
        """Await the work in this task; DeadlineExceeded if it takes longer than the limit."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[object]", asyncio.current_task(loop))
        self._ends[task] = loop.time() + self._seconds
        if not self._looking:
            self._look_again(loop)
        try:
            await work
        except asyncio.CancelledError:
            # A count above 0 means that somebody else cancelled the task too, and must see it cancelled.
            if task in self._expired and task.uncancel() == 0:
                raise DeadlineExceeded from None
            raise
        finally:
            del self._ends[task]
            self._expired.discard(task)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = True
        self._heartbeat.beat()
        loop.call_later(self._seconds / _LOOKS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._heartbeat.guarded():
            now = loop.time()
            for task, end in self._ends.items():
                if end < now and task not in self._expired:
                    task.cancel()
                    self._expired.add(task)
        self._looking = False
        if self._ends:
            self._look_again(loop)


class CallerShares:
    """A limited amount of room that callers share fairly.

    While n callers hold some of it, each may hold at most 1 / (n + 1) of it, so a new caller always finds room.

    >>> room = CallerShares(4)
    >>> [room.take("loud") for _ in range(3)], room.take("polite")
    ([True, True, False], True)
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: dict[Hashable, int] = {}
        self._total = 0

    def take(self, caller: Hashable, amount: int = 1) -> bool:
        """Take `amount` for the caller; False if there is no room, or the caller has its share."""
        if not amount:
            return True
        held = self._held.get(caller, 0)
        callers = len(self._held) + (held == 0)
        if self._total + amount > self._room or (held and held + amount > self._room // (callers + 1)):
            return False
        self._held[caller] = held + amount
        self._total += amount
        return True

    def give(self, caller: Hashable, amount: int = 1) -> None:
        """Give `amount` back."""
        if not amount:
            return
        self._total -= amount
        self._held[caller] -= amount
        # A caller who holds nothing must not count among those who share, nor stay in memory.
        if not self._held[caller]:
            del self._held[caller]


class NoRoom(Exception):  # noqa: N818 - it becomes an HTTPProblem
    """The bodies that are still coming fill their room."""


async def read_body(exchange: Exchange, limit: int, room: CallerShares, caller: Hashable) -> bytes:
    """Return the body, which must have at most `limit` bytes.

    TooLarge if it has more, NoRoom if bodies fill their room. The connection reads the rest of a
    body that is refused, so that the caller sees the answer.
    """
    declared = exchange.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    exchange.reading = True
    # Most bodies come in one piece: they are passed on without a copy and take no room.
    body, more = await _chunk(exchange.receive)
    if more:
        body = await _rest(body, exchange.receive, limit, room, caller)
    exchange.reading = False
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _rest(body: bytes, receive: Receive, limit: int, room: CallerShares, caller: Hashable) -> bytes:
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


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.")


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
