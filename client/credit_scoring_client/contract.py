"""The calls of the HTTP contract, as generators that ask for attempts and do no I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from credit_scoring_client.answer import (
    SVG,
    Answer,
    BatchResult,
    CreditDecision,
    DecisionName,
    ExplainedDecision,
    Override,
    Reply,
    Request,
    accepted,
    answer_in,
    batch_in,
    checked_header,
    decision_in,
    explained_in,
    get,
    override_in,
    post,
    svg_in,
)
from credit_scoring_client.application import (
    ARROW,
    Application,
    Frame,
    History,
    Identified,
    SentTable,
    encoded_client_id,
    encoded_features,
    encoded_history,
    encoded_item,
    encoded_items,
    table_in,
)
from credit_scoring_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    ServerError,
    TimedOut,
)
from credit_scoring_client.retry import Clock, Retry, is_transient, is_unknown, retry_after

__version__ = "0.1.0"
"""Of this package; sent as User-Agent."""

# BentoML binds the socket before its workers are up: a probe at start-up hangs, it is not refused.
_PROBE_SECONDS = 5.0
_POLL_SECONDS = 0.25

NOT_OFFERED = "urn:credit-scoring:idempotency-not-offered"
"""Type of the problem of a server that honours no idempotency keys, which it answers before it does anything."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: `request`, sent after `after` seconds; `timeout` in seconds replaces the client's if not None."""

    request: Request
    after: float = 0.0
    timeout: float | None = None


Steps = Generator[Attempt, Reply, T]
"""A generator that yields the attempts of one call and returns its result."""


def exchange(
    request: Request,
    *,
    retry: Retry,
    clock: Clock,
    read: Callable[[Reply, Request], T],
    note: Callable[[Reply], object] = lambda _: None,
) -> Steps[T]:
    """Send a request until it is answered or `retry` gives up; then raise the error of the last attempt.

    `read` reads the answer, and `note` is told of each reply.
    """
    # tenacity and stamina read time.monotonic themselves: the budget, the pauses and Retry-After would stay our own.
    # The loop below would become two, since each client would have to run it.
    start = clock.monotonic()
    reply = yield Attempt(request)
    for failures in range(1, retry.attempts):
        note(reply)
        if not is_transient(reply):
            break
        pause = retry.pause(failures, retry_after(reply, clock.now))
        # Gives up before the pause: a caller should not wait for an attempt that is not made.
        if clock.monotonic() - start + pause > retry.within:
            break
        reply = yield Attempt(request, after=pause)
    return read(reply, request)


def probe(request: Request, *, timeout: float = _PROBE_SECONDS, after: float = 0.0) -> Steps[ClientError | None]:
    """Ask once whether the server is ready; return None if it is, else the error.

    Raises a ResponseError that waiting does not cure, such as 404.
    """
    reply = yield Attempt(request, after=after, timeout=min(timeout, _PROBE_SECONDS))
    try:
        accepted(reply, request)
    except (ConnectionFailed, TimedOut, Overloaded, ServerError) as obstacle:
        return obstacle
    return None


def wait_until_ready(request: Request, timeout: float, *, clock: Clock) -> Steps[None]:
    """Probe until the server is ready; raise TimedOut, caused by the last obstacle, after `timeout` seconds."""
    if not timeout > 0:
        raise ValueError("timeout must be a positive number of seconds")
    deadline = clock.monotonic() + timeout
    obstacle, pause = None, 0.0
    while (left := deadline - clock.monotonic() - pause) > 0:
        obstacle = yield from probe(request, timeout=left, after=pause)
        if obstacle is None:
            return
        pause = _POLL_SECONDS
    # The cause tells what a bare time-out hides: the server refused, failed, or was not ready.
    raise TimedOut(f"the server was not ready within {timeout:g} s", request.request_id) from obstacle


_ONCE = Retry(attempts=1)


@dataclass(slots=True)
class KeysHonoured:
    """Whether the server honours idempotency keys, as far as its answers have told."""

    honoured: bool = True


@dataclass(frozen=True, slots=True)
class Contract:
    """Makes the steps of every call; its methods are those of the clients."""

    retry: Retry
    clock: Clock
    keys: KeysHonoured = field(default_factory=KeysHonoured)

    def predict(
        self, application: Application, client_id: str | None, request_id: str | None, history: History | None
    ) -> Steps[CreditDecision]:
        """Decide on one application."""
        body = encoded_item(application, client_id) | encoded_history(history)
        return decision_in((yield from self._post("/predict", body, request_id)))

    def explain(
        self,
        application: Application,
        client_id: str | None,
        request_id: str | None,
        history: History | None,
        *,
        changes: bool,
    ) -> Steps[ExplainedDecision]:
        """Decide on one application, and say what its margin is made of."""
        # Left out unless it is wanted: older servers refuse a part that they do not know.
        body = encoded_item(application, client_id) | encoded_history(history) | ({"changes": True} if changes else {})
        return explained_in((yield from self._post("/explain", body, request_id)))

    def waterfall(
        self, application: Application, client_id: str | None, request_id: str | None, history: History | None
    ) -> Steps[str]:
        """Decide on one application, and draw what its margin is made of."""
        body = encoded_item(application, client_id) | encoded_history(history)
        request = post("/explain", body, request_id)
        return (yield from self._sent(replace(request, accept=SVG), svg_in))

    def predict_batch(
        self, applications: Iterable[Application | Identified], request_id: str | None
    ) -> Steps[BatchResult]:
        """Decide on several applications."""
        items = encoded_items(applications)
        return batch_in((yield from self._post("/predict/batch", {"applications": items}, request_id)), size=len(items))

    def predict_table(self, table: Frame, rows: int, request_id: str | None) -> Steps[Frame]:
        """Decide on the applications of a table."""
        sent, parts = SentTable.of(table), []
        for number, (size, body) in enumerate(sent.bodies(rows)):
            # A part is a request of its own, and a record is found by its request id and its index in that.
            named = request_id if request_id is None or number == 0 else f"{request_id}-{number}"
            request = replace(post("/predict/batch", {}, named), content=body, media_type=ARROW, accept=ARROW)
            parts.append((yield from self._sent(request, partial(table_in, size=size))))
        answered: Frame = sent.answered(parts)
        return answered

    def predict_features(
        self, features: Iterable[float | None], client_id: str | None, request_id: str | None
    ) -> Steps[CreditDecision]:
        """Decide on the model's own vector."""
        body = {**encoded_client_id(client_id), "features": encoded_features(features)}
        return decision_in((yield from self._post("/predict/features", body, request_id)))

    def override(self, request_id: str, decision: DecisionName, reason: str, index: int) -> Steps[Override]:
        """Decide in the place of the model."""
        path = f"/decisions/{quote(checked_header(request_id, 'request_id'), safe='')}/override"
        body = {"decision": decision, "reason": reason, "index": index}
        return override_in((yield from self._post(path, body, None)))

    def model_info(self) -> Steps[Mapping[str, Any]]:
        """Return the description of the model."""
        return (yield from exchange(get("/model/info"), retry=self.retry, clock=self.clock, read=answer_in)).fields

    def health(self) -> Steps[Mapping[str, Any]]:
        """Return the server's report on its health, in one attempt."""
        return (yield from exchange(get("/health"), retry=_ONCE, clock=self.clock, read=answer_in)).fields

    def ready(self) -> Steps[bool]:
        """Whether the server takes work now."""
        return (yield from probe(get("/readyz"))) is None

    def wait_until_ready(self, timeout: float) -> Steps[None]:
        """Wait for the server to take work."""
        return wait_until_ready(get("/readyz"), timeout, clock=self.clock)

    def _post(self, path: str, body: Mapping[str, object], request_id: str | None) -> Steps[Answer]:
        return self._sent(post(path, body, request_id), answer_in)

    def _sent(self, keyed: Request, read: Callable[[Reply, Request], T]) -> Steps[T]:
        """Send a request, without its idempotency key where the server honours none."""
        if self.keys.honoured:
            replies: list[Reply] = []
            try:
                return (yield from exchange(keyed, retry=self.retry, clock=self.clock, read=read, note=replies.append))
            except InvalidRequest as refusal:
                # Another server may have decided already, and would be asked again without the key.
                if refusal.problem.type != NOT_OFFERED or any(map(is_unknown, replies)):
                    raise
            self.keys.honoured = False
        plain = replace(keyed, idempotency_key=None)
        return (yield from exchange(plain, retry=self.retry, clock=self.clock, read=read))
