"""Bare ASGI on uvicorn: what validation, scoring and the policy cost, and as little else as Python allows."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from pydantic_core import to_json

from benchmarks.peers.decision import BatchRequest, Decider, PredictRequest

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_decider = Decider()


def _one(body: bytes) -> Any:
    return _decider.decide([PredictRequest.model_validate_json(body)])[0]


def _many(body: bytes) -> Any:
    return {"results": _decider.decide(BatchRequest.model_validate_json(body).applications)}


_ROUTES: dict[str, Callable[[bytes], Any]] = {
    "/predict": _one,
    "/predict/batch": _many,
    "/health": lambda _: {"status": "ok"},
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    answer = to_json(_ROUTES[scope["path"]](await _body(receive)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            return body


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning",
    )  # fmt: skip
