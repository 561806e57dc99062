"""One request and what is sent back."""

from __future__ import annotations

import re
from collections import Counter
from contextvars import ContextVar
from http import HTTPStatus
from random import getrandbits

from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from .errors import MEDIA_TYPE, BadRequest, Problem, problem

FAILED = "The request could not be answered; the server's log says why."
"""What is said where the service is at fault."""

_REQUEST_ID: ContextVar[str] = ContextVar("request_id")
_LEGAL_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_SINGLE = (b"content-encoding", b"content-length", b"content-type", b"expect", b"host", b"x-request-id")
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is no such route.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The route does not answer this method.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service is not ready.",
    HTTPStatus.INTERNAL_SERVER_ERROR: FAILED,
}


class Exchange:
    """A request and its answer, which carries the request id, and is one RFC 9457 problem wherever it is an error.

    Attributes
    ----------
    scope, receive : of the ASGI request
    headers : of the request, names in lower case
    request_id : the caller's where it is short and plain, a new one elsewhere
    status : of the answer; None as long as there is none
    reading : whether its body is still coming
    """

    __slots__ = ("_replacement", "_send", "headers", "reading", "receive", "request_id", "scope", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # the first of several
        self.request_id = _request_id(self.headers)
        self.status: int | None = None
        self.reading = False
        self._send = send
        _REQUEST_ID.set(self.request_id)
        self._replacement: bytes | None = None

    def require_single(self) -> None:
        """A Problem where a header field that is read here came more than once: others might have read another one."""
        if len(self.headers) < len(self.scope["headers"]):
            seen = Counter(name for name, _ in self.scope["headers"])
            repeated = sorted(name.decode("ascii") for name in _SINGLE if seen[name] > 1)
            if repeated:
                raise BadRequest(f"The header field {repeated[0]} was sent more than once.")

    async def answer(self, body: bytes) -> None:
        """Send a whole JSON body."""
        await self._answer(HTTPStatus.OK, b"application/json", body)

    async def refuse(self, refusal: Problem) -> None:
        """Send the problem, unless an answer has begun already."""
        if self.status is None:
            extra = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
            await self._answer(refusal.status, MEDIA_TYPE.encode(), to_json(refusal.content(self.request_id)), *extra)

    async def _answer(self, status: int, media_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        own = (
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
        )
        await self._send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
        await self._send({"type": "http.response.body", "body": body})

    async def send(self, message: Message) -> None:
        """Pass on what another application sends."""
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
        if message["status"] >= HTTPStatus.BAD_REQUEST and headers.get("content-type") != MEDIA_TYPE:
            status = HTTPStatus(message["status"])
            self._replacement = to_json(problem(status, _DETAILS.get(status, status.description), self.request_id))
            headers["Content-Type"] = MEDIA_TYPE
            headers["Content-Length"] = str(len(self._replacement))
        headers["X-Request-ID"] = self.request_id
        message["headers"] = headers.raw


def request_id() -> str:
    """Id of the request that is being answered; a new one for what is asked in the service's own process."""
    return _REQUEST_ID.get(None) or new_id()


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    return given.decode("ascii") if given is not None and _LEGAL_REQUEST_ID.fullmatch(given) else new_id()


def new_id() -> str:
    """An id for a request that brings none."""
    return f"{getrandbits(128):032x}"
