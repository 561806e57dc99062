"""The direct way of a request for one decision that came whole: without a task, a coroutine or an ASGI message.

These cost more than the decision, and most requests need none of them. Whatever is unusual about a request sends it
the long way, through the boundary. Both ways give the same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import copy_context
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, Self

from pydantic_core import to_json

from serving.exchange import FAILED, JSON, PROBLEM, begin_request, fields_of, log_error
from serving.idempotency import KEY_FIELD
from serving.problems import AnswerTimedOut, Failed, HTTPProblem, TooBusy
from serving.request_metrics import Traffic
from serving.runner import Outcome
from serving.settings import Limits

if TYPE_CHECKING:
    from serving.app import ScoringRoute
    from serving.authentication import Guard

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields, names in lower case."""

_NOT_DIRECT = frozenset({b"content-encoding", KEY_FIELD})
"""Fields that send a request the long way."""
_DIGITS = 9
"""Of the length of a body, at most."""


class Send(Protocol):
    """Sends a whole answer."""

    def __call__(self, status: int, fields: Fields, body: bytes, /) -> None:
        """Send it; who has gone is sent nothing."""
        ...


class Replies(list[bytes]):
    """The bodies of answers."""

    def take(self, rows: slice) -> Self:
        """Those of the chosen rows."""
        return type(self)(self[rows])


Decide = Callable[[bytes, str, Outcome[Replies]], None]
"""Begins to decide on the application in a body, with the id of its request; NotJson or Invalid if there is none."""


class DirectRoute:
    """A route whose usual requests are answered directly; `decide` begins to decide on the application in a body."""

    def __init__(
        self, path: str, route: ScoringRoute, decide: Decide, limits: Limits, guard: Guard, traffic: Traffic
    ) -> None:
        self.path = path
        self.decide = decide
        self.waiting = route.waiting
        self.body_bytes = route.body_bytes
        self.limits = limits
        self.guard = guard
        self.traffic = traffic

    @staticmethod
    def takes(fields: Mapping[bytes, bytes]) -> bool:
        """Whether requests with these header fields may go directly."""
        return fields.get(b"content-type") == JSON and b"host" in fields and _NOT_DIRECT.isdisjoint(fields)

    def size(self, length: bytes, came: int) -> int:
        """The size of a body of the stated length; 0 unless it may go directly and is among the `came` bytes."""
        if not length.isdigit() or len(length) > _DIGITS or (size := int(length)) > came or size > self.body_bytes:
            return 0
        return size


class DirectRequest:
    """A request that is answered directly. It takes the answer's body from the runner."""

    __slots__ = ("_caller", "_client", "_done", "_endpoint", "_fields", "_id", "_route", "_send", "_size", "_start")

    def __init__(
        self,
        route: DirectRoute,
        fields: Mapping[bytes, bytes],
        size: int,
        client: tuple[str, int] | None,
        send: Send,
    ) -> None:
        self._route = route
        self._fields = fields
        self._size = size
        self._client = client
        self._send = send
        self._caller: Hashable | None = None
        self._done = False

    def begin(self, data: bytes) -> bytes:
        """Admit the request whose body the data begin with, and have it decided on in the next turn of the event loop.

        Returns the data behind the body.
        """
        # The id and the key of a request are kept in a context of its own, as those of a task are.
        copy_context().run(self._begin, data[: self._size])
        return data[self._size :]

    def _begin(self, body: bytes) -> None:
        route = self._route
        self._start = perf_counter()
        self._id = begin_request(self._fields.get(b"x-request-id"))
        self._endpoint = route.traffic.begin(route.path)
        try:
            self._admit(route)
            route.decide(body, self._id, self)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            # Not at once: the connection is still reading the request.
            asyncio.get_running_loop().call_soon(self.set_exception, error)

    def _admit(self, route: DirectRoute) -> None:
        caller = route.guard.admit({"path": route.path, "headers": self._fields.items(), "client": self._client})
        if not route.waiting.take(caller):
            self._endpoint.shed()
            raise TooBusy.after(route.limits.retry_after_seconds)
        self._caller = caller

    def expire(self) -> None:
        """Refuse the request if it is past its time limit."""
        seconds = self._route.limits.timeout_seconds
        if not self._done and perf_counter() - self._start > seconds:
            self.set_exception(AnswerTimedOut.after(seconds))

    def done(self) -> bool:
        """Whether it is answered; one that is past its time limit is, and is not decided on."""
        self.expire()
        return self._done

    def set_result(self, replies: Replies, /) -> None:
        """Send the one reply."""
        self._answer(HTTPStatus.OK, JSON, replies[0], {})

    def set_exception(self, error: BaseException, /) -> None:
        """Send the problem that an error is."""
        refusal = error if isinstance(error, HTTPProblem) else Failed(FAILED)
        if isinstance(refusal, Failed):
            log_error(error.__cause__ or error, self._id)
        self._answer(refusal.status, PROBLEM, to_json(refusal.content(self._id)), refusal.headers)

    def _answer(self, status: HTTPStatus, media_type: bytes, body: bytes, more: Mapping[str, str]) -> None:
        if self._done:
            return
        self._done = True
        if self._caller is not None:
            self._route.waiting.give(self._caller)
        try:
            self._send(status, fields_of(media_type, body, self._id, more), body)
        finally:
            self._endpoint.end(status, perf_counter() - self._start)
