"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from .answer import Reply
from .application import Application, Identified
from .batch import BatchResult
from .clock import Clock
from .connection import (
    DEFAULT_CLOCK,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    checked_url,
    direct,
    explained,
    prepared,
    standing_headers,
)
from .contract import Contract
from .decision import Decision
from .exchange import Attempt, Steps
from .retry import Retry

T = TypeVar("T")


class AsyncClient:
    """The client as coroutines; parameters, results and errors are those of `Client`.

    `sleep` is asyncio's unless given; under trio pass ``trio.sleep``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        retry: Retry = DEFAULT_RETRY,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Clock = DEFAULT_CLOCK,
    ) -> None:
        self._url, headers = checked_url(base_url), standing_headers(api_key)
        self._http = httpx.AsyncClient(
            base_url=self._url, headers=headers, timeout=timeout, transport=transport, mounts=direct(self._url)
        )
        self._contract = Contract(retry, clock)
        self._sleep = sleep

    async def predict(
        self, application: Application, *, client_id: str | None = None, request_id: str | None = None
    ) -> Decision:
        """Decide on one application: columns and their values, None or NaN where missing, never infinite."""
        return await self._run(self._contract.predict(application, client_id, request_id))

    async def predict_batch(
        self, applications: Iterable[Application | Identified], *, request_id: str | None = None
    ) -> BatchResult:
        """Decide on applications, each a mapping of columns or (client_id, mapping); results keep the order."""
        return await self._run(self._contract.predict_batch(applications, request_id))

    async def predict_features(
        self, features: Iterable[float | None], *, client_id: str | None = None, request_id: str | None = None
    ) -> Decision:
        """Decide on the model's own feature vector, ordered as in `model_info`."""
        return await self._run(self._contract.predict_features(features, client_id, request_id))

    async def model_info(self) -> Mapping[str, Any]:
        """Version, digest, features, policy, metrics and lineage of the model that answers."""
        return await self._run(self._contract.model_info())

    async def health(self) -> Mapping[str, Any]:
        """Ask for the server's own account of its health, once."""
        return await self._run(self._contract.health())

    async def ready(self) -> bool:
        """Whether the server takes work now; False too if it cannot be reached or fails."""
        return await self._run(self._contract.ready())

    async def wait_until_ready(self, timeout: float) -> None:
        """Return once the server takes work; TimedOut after `timeout` seconds, ResponseError at a 3xx or 4xx."""
        await self._run(self._contract.wait_until_ready(timeout))

    async def aclose(self) -> None:
        """Close the connections; calls are no longer possible."""
        await self._http.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(await self._make(attempt))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _make(self, attempt: Attempt) -> Reply:
        if attempt.after > 0:
            await self._sleep(attempt.after)
        try:
            return await self._http.send(prepared(self._http, attempt))
        except httpx.RequestError as error:
            return explained(error, self._url)

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._url)!r})"

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
