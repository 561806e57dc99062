"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
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


class Client:
    """Blocking client of a credit-scoring server; threads may share one, and it keeps connections open until closed.

    Every call raises a ClientError if it brings no result, and every call but `health` and `ready` is tried again as
    `retry` says. A call without a `request_id` gets a new UUID 4.

    Parameters
    ----------
    base_url
        http(s)://host, optionally with port and path.
    api_key
        Sent as bearer token; shown nowhere.
    timeout
        Seconds for each of connecting, writing and waiting for the next bytes of one attempt.
    transport
        Replaces httpx's own, for example ``httpx.HTTPTransport(verify=context)`` for a private CA.
    sleep, clock
        What a test replaces in order not to wait.

    Examples
    --------
    >>> Client("http://127.0.0.1:3000", api_key="secret")
    Client('http://127.0.0.1:3000')
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        retry: Retry = DEFAULT_RETRY,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Clock = DEFAULT_CLOCK,
    ) -> None:
        self._url, headers = checked_url(base_url), standing_headers(api_key)
        self._http = httpx.Client(
            base_url=self._url, headers=headers, timeout=timeout, transport=transport, mounts=direct(self._url)
        )
        self._contract = Contract(retry, clock)
        self._sleep = sleep

    def predict(
        self, application: Application, *, client_id: str | None = None, request_id: str | None = None
    ) -> Decision:
        """Decide on one application: columns and their values, None or NaN where missing, never infinite."""
        return self._run(self._contract.predict(application, client_id, request_id))

    def predict_batch(
        self, applications: Iterable[Application | Identified], *, request_id: str | None = None
    ) -> BatchResult:
        """Decide on applications, each a mapping of columns or (client_id, mapping); results keep the order."""
        return self._run(self._contract.predict_batch(applications, request_id))

    def predict_features(
        self, features: Iterable[float | None], *, client_id: str | None = None, request_id: str | None = None
    ) -> Decision:
        """Decide on the model's own feature vector, ordered as in `model_info`."""
        return self._run(self._contract.predict_features(features, client_id, request_id))

    def model_info(self) -> Mapping[str, Any]:
        """Version, digest, features, policy, metrics and lineage of the model that answers."""
        return self._run(self._contract.model_info())

    def health(self) -> Mapping[str, Any]:
        """Ask for the server's own account of its health, once."""
        return self._run(self._contract.health())

    def ready(self) -> bool:
        """Whether the server takes work now; False too if it cannot be reached or fails."""
        return self._run(self._contract.ready())

    def wait_until_ready(self, timeout: float) -> None:
        """Return once the server takes work; TimedOut after `timeout` seconds, ResponseError at a 3xx or 4xx."""
        self._run(self._contract.wait_until_ready(timeout))

    def close(self) -> None:
        """Close the connections; calls are no longer possible."""
        self._http.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(self._make(attempt))
        except StopIteration as end:
            result: T = end.value
            return result

    def _make(self, attempt: Attempt) -> Reply:
        if attempt.after > 0:
            self._sleep(attempt.after)
        try:
            return self._http.send(prepared(self._http, attempt))
        except httpx.RequestError as error:
            return explained(error, self._url)

    def __repr__(self) -> str:
        return f"Client({str(self._url)!r})"

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
