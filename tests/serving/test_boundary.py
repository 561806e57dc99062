from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from serving import DECODED, REQUEST_ID, Boundary, Overloaded, problem_response
from serving.settings import Limits

LIMITS = Limits(body_bytes=1024, application_bytes=1024, batch_applications=10, timeout_seconds=0.2)
PROBLEM = "application/problem+json"


async def _echo(request: Request) -> Response:
    return JSONResponse({"decoded": request.scope[DECODED], "request_id": REQUEST_ID.get()})


async def _fail(_: Request) -> Response:
    return JSONResponse({"error": "a framework's own shape"}, status_code=500)


async def _slow(_: Request) -> Response:
    await asyncio.sleep(60)
    return PlainTextResponse("never")


async def _refuse(_: Request) -> Response:
    return problem_response(Overloaded("Too many.", headers={"Retry-After": "3"}), REQUEST_ID.get())


APP = Boundary(
    Starlette(
        routes=[
            Route("/score", _echo, methods=["POST"]),
            Route("/fail", _fail),
            Route("/slow", _slow),
            Route("/refuse", _refuse),
        ]
    ),
    LIMITS,
    {"/score": (json.loads, LIMITS.body_bytes)},
)


def ask(method: str, path: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The problem that an answer carries, which must say the same as its status line."""
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert sorted(problem) == ["detail", "request_id", "status", "title", "type"]
    return problem


def test_a_request_is_decoded_before_it_is_routed() -> None:
    answer = ask("POST", "/score", json={"a": 1}, headers={"X-Request-ID": "caller-7"})
    assert (answer.status_code, answer.json()) == (200, {"decoded": {"a": 1}, "request_id": "caller-7"})
    assert answer.headers["x-request-id"] == "caller-7"


@pytest.mark.parametrize("given", ["", "has space", "x" * 129, 'quote"', "new\tline"])
def test_an_illegal_request_id_is_replaced(given: str) -> None:
    answer = ask("POST", "/score", json={}, headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/vnd.bentoml+pickle", "multipart/form-data", ""])
def test_another_media_type_is_refused(media_type: str) -> None:
    answer = ask("POST", "/score", content=b"{}", headers={"Content-Type": media_type})
    assert (answer.status_code, refused(answer)["title"]) == (415, "Unsupported Media Type")


def test_a_charset_beside_the_media_type_is_allowed() -> None:
    answer = ask("POST", "/score", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


def test_a_compressed_body_is_refused() -> None:
    answer = ask(
        "POST", "/score", content=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


def test_a_body_at_the_limit_is_read_and_one_beyond_is_refused() -> None:
    headers = {"Content-Type": "application/json"}
    fits = b'"' + b"x" * (LIMITS.body_bytes - 2) + b'"'
    assert ask("POST", "/score", content=fits, headers=headers).status_code == 200
    answer = ask("POST", "/score", content=fits + b" ", headers=headers)
    assert (answer.status_code, refused(answer)["detail"]) == (413, "The body is larger than 1024 bytes.")


def test_a_body_without_a_declared_length_is_measured_as_it_comes() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 512

    answer = ask("POST", "/score", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/score", 405), ("GET", "/fail", 500), ("GET", "/slow", 504)],
)
def test_every_error_is_a_problem(method: str, path: str, status: int) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    assert refused(answer)["type"] == "about:blank"


def test_a_problem_from_inside_keeps_its_headers() -> None:
    answer = ask("GET", "/refuse")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert refused(answer)["detail"] == "Too many."


def test_a_caller_that_hangs_up_is_not_answered() -> None:
    sent = drive([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    assert sent == []


def test_a_caller_that_is_slow_is_timed_out() -> None:
    sent = drive([{"type": "http.request", "body": b"{", "more_body": True}])
    assert [message.get("status") for message in sent] == [504, None]


def test_what_is_no_http_is_passed_on() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    boundary = Boundary(inner, LIMITS, {})
    asyncio.run(boundary({"type": "lifespan"}, _never, _ignore))
    assert seen == ["lifespan"]


def drive(received: list[Message]) -> list[Message]:
    """Send the messages to /score by hand and collect what comes back; nothing more arrives after them."""
    sent: list[Message] = []
    scope = {"type": "http", "method": "POST", "path": "/score", "headers": [(b"content-type", b"application/json")]}

    async def receive() -> Message:
        return received.pop(0) if received else await _never()

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(APP(scope, receive, send))
    return sent


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def _ignore(message: Message) -> None:
    return None
