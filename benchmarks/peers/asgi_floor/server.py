"""Bare ASGI on uvicorn: what the answer to /predict costs, and as little else as Python allows.

The body is read by the same typed model, and the answer has every field of this service's, the reasons of declines
included. Lacking are what a service needs besides: limits, keys, problem documents, metrics, drift counts, records.
"""

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


class Floor:
    """An ASGI application with two routes, and one that says it is there."""

    def __init__(self) -> None:
        self._decider = Decider()
        self._routes: dict[str, Callable[[bytes], Any]] = {
            "/predict": self._one,
            "/predict/batch": self._many,
            "/health": lambda _: {"status": "ok"},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = to_json(self._routes[scope["path"]](await _body(receive)))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _one(self, body: bytes) -> Any:
        return self._decider.decide([PredictRequest.model_validate_json(body)])[0]

    def _many(self, body: bytes) -> Any:
        return {"results": self._decider.decide(BatchRequest.model_validate_json(body).applications)}


async def _body(receive: Receive) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message["body"])
        more = message.get("more_body", False)
    return b"".join(parts)


if __name__ == "__main__":
    uvicorn.run(
        Floor(),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
