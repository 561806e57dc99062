"""The clients: `Client` blocks, `AsyncClient` is for asyncio and trio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from credit_scoring_client.answer import (
    BatchResult,
    CreditDecision,
    DecisionName,
    ExplainedDecision,
    Override,
    Reply,
    checked_header,
)
from credit_scoring_client.application import DEFAULT_ROWS, Application, Frame, History, Identified
from credit_scoring_client.contract import Attempt, Contract, Steps, __version__
from credit_scoring_client.retry import Clock, Retry

DEFAULT_CLOCK = Clock()
DEFAULT_RETRY = Retry()
# Above the 10 seconds after which the service answers 504 by default: its own answer comes first.
DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


def checked_url(base_url: str) -> httpx.URL:
    """Return the server's address; ValueError if it is not one.

    >>> checked_url("localhost:3000")
    Traceback (most recent call last):
    ValueError: base_url must be http://host or https://host, optionally with port and path, and no user name
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url is not a URL: {error}") from None
    # httpx sends a user name from the URL in place of the API key, and errors would show it.
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            "base_url must be http://host or https://host, optionally with port and path, and no user name"
        )
    return url


def standing_headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    headers = {"Accept": "application/json", "User-Agent": f"credit-scoring-client/{__version__}"}
    if api_key is not None:
        # BentoML's own clients send a key in this form too.
        headers["Authorization"] = f"Bearer {checked_header(api_key, 'api_key')}"
    return headers


def direct_mounts(url: httpx.URL) -> dict[str, None]:
    """Return mounts of httpx that bypass HTTP_PROXY for a server on loopback, which no proxy can reach.

    >>> direct_mounts(httpx.URL("http://127.0.0.1:3000")), direct_mounts(httpx.URL("http://scores.example"))
    ({'all://127.0.0.1': None}, {})
    """
    return {f"all://{_bracketed(url.host)}": None} if _is_loopback(url.host) else {}


def with_proxy_hint(error: httpx.RequestError, url: httpx.URL) -> httpx.RequestError:
    """Return the error, with a hint if the request went through a proxy that the environment names."""
    proxy = getproxies().get(url.scheme) or getproxies().get("all")
    if proxy is None or _is_loopback(url.host) or proxy_bypass(url.host):
        return error
    hint = f"through the proxy that {url.scheme.upper()}_PROXY names; set NO_PROXY={url.host} to bypass it"
    return type(error)(f"{error} ({hint})", request=error.request)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def prepared(http: httpx.Client | httpx.AsyncClient, attempt: Attempt) -> httpx.Request:
    """Make the request of an attempt."""
    request = attempt.request
    timeout = httpx.USE_CLIENT_DEFAULT if attempt.timeout is None else attempt.timeout
    return http.build_request(
        request.method, request.path, content=request.content, headers=request.headers, timeout=timeout
    )


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
        A test replaces them so that it need not wait.

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
            base_url=self._url,
            headers=headers,
            timeout=timeout,
            transport=transport,
            mounts=direct_mounts(self._url),
        )
        self._contract = Contract(retry, clock)
        self._sleep = sleep

    def predict(
        self,
        application: Application,
        *,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> CreditDecision:
        """Decide on one application: columns and their values, None or NaN where missing, never infinite.

        `history` is what is known of the client, where the model reads it: the rows of each table.
        """
        return self._run(self._contract.predict(application, client_id, request_id, history))

    def explain(
        self,
        application: Application,
        *,
        changes: bool = False,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> ExplainedDecision:
        """Decide on one application, and say what its margin is made of; the key needs the scope explain.

        With `changes`, also which changes would reach approval.
        """
        return self._run(self._contract.explain(application, client_id, request_id, history, changes=changes))

    def waterfall(
        self,
        application: Application,
        *,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> str:
        """Decide on one application as `explain` does, and return the picture of its reasons as SVG."""
        return self._run(self._contract.waterfall(application, client_id, request_id, history))

    def predict_batch(
        self, applications: Iterable[Application | Identified], *, request_id: str | None = None
    ) -> BatchResult:
        """Decide on applications, each a mapping of columns or (client_id, mapping); results keep the order."""
        return self._run(self._contract.predict_batch(applications, request_id))

    def predict_table(self, table: Frame, *, rows: int = DEFAULT_ROWS, request_id: str | None = None) -> Frame:
        """Decide on a pyarrow Table or a pandas DataFrame of applications; the answer is of the same kind and order.

        It is sent in parts of at most `rows` rows, each a request of its own: after the first their ids end in -1, -2,
        and so on. An error leaves the parts before it decided. Needs pyarrow, the extra `arrow`.
        """
        return self._run(self._contract.predict_table(table, rows, request_id))

    def predict_features(
        self, features: Iterable[float | None], *, client_id: str | None = None, request_id: str | None = None
    ) -> CreditDecision:
        """Decide on the model's own feature vector, ordered as in `model_info`."""
        return self._run(self._contract.predict_features(features, client_id, request_id))

    def override(self, request_id: str, decision: DecisionName, reason: str, *, index: int = 0) -> Override:
        """Approve or decline in the place of the decision with this request id; the key needs the scope override."""
        return self._run(self._contract.override(request_id, decision, reason, index))

    def model_info(self) -> Mapping[str, Any]:
        """Version, digest, features, policy, metrics and lineage of the model that answers."""
        return self._run(self._contract.model_info())

    def health(self) -> Mapping[str, Any]:
        """Return the server's report on its health, in one attempt."""
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

    # Calls are generators without I/O, so that both clients share every rule on retries and answers.
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
            return with_proxy_hint(error, self._url)

    def __repr__(self) -> str:
        return f"Client({str(self._url)!r})"

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


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
            base_url=self._url,
            headers=headers,
            timeout=timeout,
            transport=transport,
            mounts=direct_mounts(self._url),
        )
        self._contract = Contract(retry, clock)
        self._sleep = sleep

    async def predict(
        self,
        application: Application,
        *,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> CreditDecision:
        """Decide on one application: columns and their values, None or NaN where missing, never infinite.

        `history` is what is known of the client, where the model reads it: the rows of each table.
        """
        return await self._run(self._contract.predict(application, client_id, request_id, history))

    async def explain(
        self,
        application: Application,
        *,
        changes: bool = False,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> ExplainedDecision:
        """Decide on one application, and say what its margin is made of; the key needs the scope explain.

        With `changes`, also which changes would reach approval.
        """
        return await self._run(self._contract.explain(application, client_id, request_id, history, changes=changes))

    async def waterfall(
        self,
        application: Application,
        *,
        history: History | None = None,
        client_id: str | None = None,
        request_id: str | None = None,
    ) -> str:
        """Decide on one application as `explain` does, and return the picture of its reasons as SVG."""
        return await self._run(self._contract.waterfall(application, client_id, request_id, history))

    async def predict_batch(
        self, applications: Iterable[Application | Identified], *, request_id: str | None = None
    ) -> BatchResult:
        """Decide on applications, each a mapping of columns or (client_id, mapping); results keep the order."""
        return await self._run(self._contract.predict_batch(applications, request_id))

    async def predict_table(self, table: Frame, *, rows: int = DEFAULT_ROWS, request_id: str | None = None) -> Frame:
        """Decide on a pyarrow Table or a pandas DataFrame of applications; the answer is of the same kind and order.

        It is sent in parts of at most `rows` rows, each a request of its own: after the first their ids end in -1, -2,
        and so on. An error leaves the parts before it decided. Needs pyarrow, the extra `arrow`.
        """
        return await self._run(self._contract.predict_table(table, rows, request_id))

    async def predict_features(
        self, features: Iterable[float | None], *, client_id: str | None = None, request_id: str | None = None
    ) -> CreditDecision:
        """Decide on the model's own feature vector, ordered as in `model_info`."""
        return await self._run(self._contract.predict_features(features, client_id, request_id))

    async def override(self, request_id: str, decision: DecisionName, reason: str, *, index: int = 0) -> Override:
        """Approve or decline in the place of the decision with this request id; the key needs the scope override."""
        return await self._run(self._contract.override(request_id, decision, reason, index))

    async def model_info(self) -> Mapping[str, Any]:
        """Version, digest, features, policy, metrics and lineage of the model that answers."""
        return await self._run(self._contract.model_info())

    async def health(self) -> Mapping[str, Any]:
        """Return the server's report on its health, in one attempt."""
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
            return with_proxy_hint(error, self._url)

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._url)!r})"

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
