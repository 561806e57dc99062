"""The ASGI boundary: it admits and limits every request, and answers scoring requests itself.

A scoring request is read within its limits, decoded, answered by the decision engine and encoded here. BentoML's
application behind the boundary answers the other routes. BentoML's wrapper of an API method costs a scoring request
more than the model does, logs every invalid one with a traceback that quotes it, and knows five shapes of error.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.authentication import Guard, caller_name
from serving.direct import Decide, DirectRoute
from serving.exchange import (
    FAILED,
    JSON,
    SVG,
    TABLES,
    CallerShares,
    DeadlineExceeded,
    Deadlines,
    Exchange,
    NoRoom,
    log_error,
    read_body,
)
from serving.idempotency import KEY_FIELD, REPLAYED, Idempotency
from serving.problems import AnswerTimedOut, BadRequest, Failed, HTTPProblem, LateBody, NotAllowed, NotReady, TooBusy
from serving.request_metrics import OVERRIDE, Endpoint, Traffic, overridden
from serving.runtime import Front, return_free_memory
from serving.settings import Limits

READY = "/readyz"


@dataclass(frozen=True)
class ScoringRoute:
    """A scoring route: the function that turns a body into an answer, and the limits of the route.

    Attributes
    ----------
    answer : turns the body of a request, after the request id in its path if the route has one, into the body of its
        answer; may raise an HTTPProblem
    body_bytes : how large a body may be
    in_flight : how many whole requests may wait at once; more are refused
    draw : turns the body of a request into an answer as SVG, for callers that prefer one; None where there is none
    direct : begins to answer a whole body of JSON, with the id of its request; None where the answer must be waited for
    tables : gives the function for a body of one media type and an answer of another, of which one at least is a table;
        None where there are none
    """

    answer: Callable[..., Awaitable[bytes]]
    body_bytes: int
    in_flight: int
    draw: Callable[[bytes], Awaitable[bytes]] | None = None
    direct: Decide | None = None
    tables: Callable[[bytes, bytes], Callable[[bytes], Awaitable[bytes]]] | None = None

    @cached_property
    def readable(self) -> tuple[bytes, ...]:
        """The media types of bodies."""
        return (JSON,) if self.tables is None else (JSON, *TABLES)

    def offered(self, given: bytes) -> tuple[bytes, ...]:
        """The media types of answers to a body of one media type, which comes first."""
        if self.draw is None and self.tables is None:
            return (JSON,)
        others = () if self.draw is None else (SVG,)
        return tuple(dict.fromkeys((given, *self.readable, *others)))

    def work(self, given: bytes, wanted: bytes) -> Callable[..., Awaitable[bytes]]:
        """The function that turns a body of one media type into an answer of another."""
        if self.draw is not None and wanted == SVG:
            return self.draw
        if self.tables is not None and (given, wanted) != (JSON, JSON):
            return self.tables(given, wanted)
        return self.answer

    @cached_property
    def waiting(self) -> CallerShares:
        """Return the room for requests that wait for their answer."""
        return CallerShares(self.in_flight)


class Boundary:
    """ASGI application that wraps BentoML's: it admits, limits, measures and answers requests.

    Parameters
    ----------
    limits : time of an answer
    guard : admits requests
    routes : gives the scoring routes by path, all of them POST, once the service has started
    fault : says why this worker is not ready, None if it is; asked at each probe
    idempotency : answers requests with an Idempotency-Key; without it they are refused
    front : takes over the connections when the service starts; None under a server other than BentoML's
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        guard: Guard,
        traffic: Traffic,
        routes: Callable[[], Mapping[str, ScoringRoute]],
        fault: Callable[[], str | None] = lambda: None,
        front: Front | None = None,
        idempotency: Idempotency | None = None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._guard = guard
        self._traffic = traffic
        self._make_routes = routes
        self._fault = fault
        self._front = front
        self._idempotency = idempotency or Idempotency(None, traffic, limits.retry_after_seconds)
        self._buffered = CallerShares(limits.buffered_bytes)
        self._deadlines = Deadlines(limits.timeout_seconds)

    @cached_property
    def _routes(self) -> Mapping[str, ScoringRoute]:
        return self._make_routes()

    @cached_property
    def _direct_routes(self) -> Mapping[bytes, DirectRoute]:
        return {
            path.encode(): DirectRoute(path, route, route.direct, self._limits, self._guard, self._traffic)
            for path, route in self._routes.items()
            if route.direct is not None
        }

    def direct(self, target: bytes) -> DirectRoute | None:
        """Return the route that answers requests for a target directly, None if there is none."""
        return self._direct_routes.get(target)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            if self._front is not None:
                self._front.install(asyncio.get_running_loop(), self.direct)
            await self._app(scope, self._settling(receive), _freezing(send))
            self._idempotency.close()
            self._traffic.tallies.publish()  # the lifespan has ended: no timer would hand over the last counts
        elif scope["type"] != "http":  # the service has no web sockets
            await send({"type": "websocket.close"})
        elif scope["path"] == "/metrics":
            await self._metrics(Exchange(scope, receive, send))
        else:
            await self._exchange(Exchange(scope, receive, send))

    def _settling(self, receive: Receive) -> Receive:
        """Return `receive`, which lets work end that nobody waits for before the decision log is closed."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._idempotency.settled(self._limits.timeout_seconds)
            return message

        return received

    async def _metrics(self, exchange: Exchange) -> None:
        """Answer a scrape, which is not measured itself."""
        try:
            self._admit(exchange)
        except HTTPProblem as refusal:
            await exchange.refuse(refusal)
        else:
            self._traffic.tallies.publish()
            await self._app(exchange.scope, exchange.receive, exchange.send)

    async def _exchange(self, exchange: Exchange) -> None:
        start = time.perf_counter()
        endpoint = self._traffic.begin(exchange.scope["path"])
        try:
            await self._deadlines.within(self._answer(exchange, endpoint))
        except HTTPProblem as refusal:
            await exchange.refuse(refusal)
        except DeadlineExceeded:
            seconds = self._limits.timeout_seconds
            await exchange.refuse((LateBody if exchange.reading else AnswerTimedOut).after(seconds))
        except ClientDisconnect:  # nobody is left to answer, and uvicorn would log a traceback
            pass
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            log_error(error, exchange.request_id)
            await exchange.refuse(Failed(FAILED))
        finally:
            endpoint.end(exchange.status, time.perf_counter() - start)

    async def _answer(self, exchange: Exchange, endpoint: Endpoint) -> None:
        scope = exchange.scope
        # Admission first: a caller who is refused must not make the service read and hold its body.
        caller = self._admit(exchange)
        route, named = self._route(scope)
        if route is None:
            if scope["path"] == READY and (fault := self._fault()):
                raise NotReady(f"The service is not ready: {fault}.")
            await self._app(scope, exchange.receive, exchange.send)
            return
        given = exchange.media_type(route.readable)
        try:
            body = await read_body(exchange, route.body_bytes, self._buffered, caller)
        except NoRoom:
            raise self._no_room(endpoint) from None
        # Only whole bodies take a place: callers that send slowly could otherwise hold them all.
        if not route.waiting.take(caller):
            raise self._no_room(endpoint)
        media_type = exchange.preferred(route.offered(given))
        work = route.work(given, media_type)
        if named:
            work = partial(work, *named)
        leave = partial(route.waiting.give, caller)
        if (key := exchange.headers.get(KEY_FIELD)) is None:
            try:
                answer, replayed = await work(body), False
            finally:
                leave()
        else:
            # A key stands for one media type too: what is kept has no other form.
            path = " ".join([scope["path"], *(one.decode() for one in _told_apart(given, media_type))])
            task = self._idempotency.begin(key, caller_name(), path, body, work)
            task.add_done_callback(lambda _: leave())  # work that outlasts its time limit keeps its place
            answer, replayed = await _shielded(task, exchange)
        await exchange.answer(answer, *((REPLAYED,) if replayed else ()), media_type=media_type)

    def _route(self, scope: Scope) -> tuple[ScoringRoute | None, tuple[str, ...]]:
        """Return the scoring route of a request, None if it has none, and the request id that its path names."""
        path, posted = scope["path"], scope["method"] == "POST"
        route = self._routes.get(path) if posted and path != OVERRIDE else None
        named = overridden(path) if route is None else None
        if named is None:
            return route, ()
        if not posted:
            raise NotAllowed.but_post()
        return self._routes.get(OVERRIDE), (named,)

    def _no_room(self, endpoint: Endpoint) -> TooBusy:
        endpoint.shed()
        return TooBusy.after(self._limits.retry_after_seconds)

    def _admit(self, exchange: Exchange) -> Hashable:
        """Return the caller of the request; raise the HTTPProblem that refuses it."""
        scope = exchange.scope
        if scope["http_version"] == "1.1" and b"host" not in exchange.headers:
            raise BadRequest("The header field Host is missing.")
        exchange.require_single()
        return self._guard.admit(scope)


def _told_apart(given: bytes, wanted: bytes) -> tuple[bytes, ...]:
    """The media types of body and answer where they are not both JSON."""
    if given == JSON:
        return () if wanted == JSON else (wanted,)
    return wanted, given


async def _shielded(task: asyncio.Task[tuple[bytes, bool]], exchange: Exchange) -> tuple[bytes, bool]:
    """Wait for the task, which goes on if this wait is cancelled; then its error is logged when it comes."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(partial(_log_late, exchange))
        raise


def _log_late(exchange: Exchange, task: asyncio.Task[tuple[bytes, bool]]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception) and not isinstance(error, HTTPProblem):
        log_error(error, exchange.request_id)


def _freezing(send: Send) -> Send:
    """Return `send`, which sets the objects of start-up aside from garbage collection once the service is ready."""

    async def sent(message: Message) -> Any:
        if message["type"] == "lifespan.startup.complete":
            # A full collection would walk through a hundred thousand objects of the libraries.
            gc.collect()
            gc.freeze()
            return_free_memory()
        await send(message)

    return sent
