"""The ASGI boundary: everything that is the same for all routes.

Every request gets a request id. A scoring request is read within the limits and decoded before BentoML sees it, so that
an invalid one costs neither a traceback nor a log line that quotes it. Every error leaves as one RFC 9457 problem.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from http import HTTPStatus

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import MEDIA_TYPE, Problem, TimedOut, TooLarge, UnsupportedMedia, problem
from .settings import Limits

DECODED = "credit_scoring.decoded"
"""Key of the ASGI scope under which the decoded request stands."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id")
"""Id of the request that is being answered."""

Decoder = tuple[Callable[[bytes], object], int]

_LEGAL_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_MOST_DRAINED = 32 << 20
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is no such route.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The route does not answer this method.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service is not ready.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The request could not be answered; the server's log says why.",
}


class Boundary:
    """ASGI middleware around the BentoML service.

    Parameters
    ----------
    limits : time of an answer
    decoders : for the path of each scoring route, the function from its body to its request, and the bytes it may have
    """

    def __init__(self, app: ASGIApp, limits: Limits, decoders: Mapping[str, Decoder]) -> None:
        self._app = app
        self._limits = limits
        self._decoders = decoders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers))
        REQUEST_ID.set(answer.request_id)
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                await self._answer(scope, receive, headers, answer)
        except Problem as refusal:
            await answer.refuse(scope, receive, refusal)
        except TimeoutError:
            limit = f"{self._limits.timeout_seconds:g} seconds"
            await answer.refuse(scope, receive, TimedOut(f"The answer was not ready within {limit}."))
        except ClientDisconnect:
            return

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers, answer: _Answer) -> None:
        decoder = self._decoders.get(scope["path"]) if scope["method"] == "POST" else None
        if decoder is not None:
            decode, limit = decoder
            _require_json(headers)
            scope[DECODED] = decode(await _body(headers, receive, limit))
            receive = _consumed
        await self._app(scope, receive, answer.send)


class _Answer:
    """What is sent back: marked with the request id, and a problem wherever it is an error."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self._send = send
        self._started = False
        self._replacement: bytes | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and self._replacement is not None:
            if message.get("more_body"):
                return
            message = {"type": "http.response.body", "body": self._replacement}
        await self._send(message)

    def _start(self, message: Message) -> None:
        self._started = True
        headers = MutableHeaders(raw=message["headers"])
        if message["status"] >= HTTPStatus.BAD_REQUEST and headers.get("content-type") != MEDIA_TYPE:
            status = HTTPStatus(message["status"])
            self._replacement = to_json(problem(status, _DETAILS.get(status, status.description), self.request_id))
            headers["Content-Type"] = MEDIA_TYPE
            headers["Content-Length"] = str(len(self._replacement))
        headers["X-Request-ID"] = self.request_id
        message["headers"] = headers.raw

    async def refuse(self, scope: Scope, receive: Receive, refusal: Problem) -> None:
        if not self._started:
            await problem_response(refusal, self.request_id)(scope, receive, self.send)


def problem_response(refusal: Problem, request_id: str) -> Response:
    """The response that carries a problem."""
    return Response(
        to_json(refusal.content(request_id)), refusal.status, headers=dict(refusal.headers), media_type=MEDIA_TYPE
    )


def _request_id(headers: Headers) -> str:
    """The caller's request id where it is short and plain, a new one elsewhere."""
    given = headers.get("x-request-id", "")
    return given if _LEGAL_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _require_json(headers: Headers) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMedia("The body must be declared as application/json.")
    if headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("A compressed body is not read.")


async def _body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body. One that is too large is read to its end, within reason, so that the caller sees the answer."""
    declared = headers.get("content-length", "")
    chunks: list[bytes] = []
    size, too_large = 0, declared.isdigit() and int(declared) > limit
    async for chunk in _chunks(receive):
        size += len(chunk)
        too_large = too_large or size > limit
        if size > _MOST_DRAINED:
            break
        if not too_large:
            chunks.append(chunk)
    if too_large:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    return b"".join(chunks)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _consumed() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
