"""Requests that are answered directly: what they are, and that whatever becomes of one is answered and counted once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from scoring.store import StoredModel
from serving.app import Boundary, ScoringRoute
from serving.direct import Decide, DirectRequest, Fields, Replies
from serving.framing import UsualHeads, usual_head
from serving.problems import Failed, Invalid, Unrecorded
from serving.request_metrics import Traffic
from serving.runner import EmbeddedRunner, Outcome
from serving.settings import BoundaryPosition, Limits, Placement, RunnerSettings
from tests.serving.test_boundary import LIMITS, OPEN, PAGES, SECRET
from tests.serving.test_engine import SERVING, Service

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n%b\r\n"
RUNNER = RunnerSettings(placement=Placement.EMBEDDED, max_batch_rows=4, batches_in_flight=2, threads=1, service={})
Sent = tuple[int, dict[bytes, bytes], bytes]


class Direct:
    """A boundary whose requests are decided on by a function of a body's number."""

    def __init__(self, decide: Callable[[int], bytes], limits: Limits = LIMITS, *, room: int = 8) -> None:
        self.registry, self.sent, self.decided = CollectorRegistry(), list[Sent](), list[int]()
        self._decide = decide
        traffic = Traffic([0.1], registry=self.registry)
        self.traffic, self.route = traffic, ScoringRoute(self._late, 8, room, direct=self._begin)
        self.boundary = Boundary(PAGES, limits, OPEN, traffic, lambda: {"/predict": self.route})
        self._runner: EmbeddedRunner[list[int], Replies] = EmbeddedRunner(
            self._score, lambda rows: [number for one in rows for number in one], RUNNER, lambda *_: None
        )

    async def _late(self, _: bytes) -> bytes:
        raise AssertionError("the long way")

    def _begin(self, body: bytes, request: str, outcome: Outcome[Replies]) -> None:
        assert request
        number = int(body)
        if number < 0:
            raise Invalid("It is negative.")
        self._runner.put([number], outcome)

    def _score(self, numbers: list[int]) -> Replies:
        replies = Replies(map(self._decide, numbers))
        self.decided += numbers
        return replies

    def request(self, more: bytes = b"", came: int = 2) -> DirectRequest | None:
        return self.request_of(HEAD % more, came)

    def request_of(self, head: bytes, came: int) -> DirectRequest | None:
        read = usual_head(head)
        route = None if read is None else self.boundary.direct(read[0].target)
        if read is None or route is None or not route.takes(read[0].fields):
            return None
        size = route.size(read[1], came)
        return DirectRequest(route, read[0].fields, size, ("127.0.0.1", 1), self._send) if size else None

    def _send(self, status: int, fields: Fields, body: bytes) -> None:
        assert len(dict(fields)) == len(fields)
        self.sent.append((status, dict(fields), body))

    def ask(self, *bodies: bytes, more: bytes = b"") -> list[Sent]:
        """What is answered to bodies that come in one turn of the loop."""

        async def run() -> None:
            for body in bodies:
                request = self.request(more)
                assert request is not None
                assert request.begin(body + b"rest") == b"rest"
                assert not self.sent  # the connection is still reading
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.traffic.tallies.publish()

        asyncio.run(run())
        assert self.route.waiting.take("anybody", self.route.in_flight)  # all room was given back
        return self.sent

    def counted(self, status: str) -> float | None:
        labels = {"endpoint": "/predict", "status": status}
        return self.registry.get_sample_value("credit_scoring_requests_total", labels)


def told(number: int) -> bytes:
    return b"[%d]" % number


def test_requests_of_one_turn_are_decided_together_and_each_gets_its_own_answer() -> None:
    direct = Direct(told)
    sent = direct.ask(b"01", b"02")
    assert [(status, body) for status, _, body in sent] == [(200, b"[1]"), (200, b"[2]")]
    assert direct.decided == [1, 2]
    assert direct.counted("200") == 2.0
    fields = sent[0][1]
    assert (fields.pop(b"content-type"), fields.pop(b"content-length")) == (b"application/json", b"3")
    assert len(fields.pop(b"x-request-id")) == 32
    assert fields == {}


def test_a_given_request_id_is_kept() -> None:
    assert Direct(told).ask(b"01", more=b"X-Request-ID: r-7\r\n")[0][1][b"x-request-id"] == b"r-7"


@pytest.mark.parametrize(
    "more",
    [
        b"Idempotency-Key: k\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"TE: trailers\r\n",
        b"Host: localhost\r\n",
        b"Content-Length: 2\r\n",
        b"X: \xc3\xa9\r\n",
        b"X: a\tb\r\n",
        b"X : a\r\n",
        b" X: a\r\n",
        b"X: a\n",
        b"X\r\n",
    ],
)
def test_an_unusual_head_goes_the_long_way(more: bytes) -> None:
    assert Direct(told).request(more) is None
    assert usual_head(HEAD % more + b"\r\n") is None


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n", b"Accept: */*\r\nX-Api-Key: s\r\n", b"X:\r\n"])
def test_a_usual_head_is_answered_directly(more: bytes) -> None:
    assert Direct(told).request(more) is not None


FIELDS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: %d\r\n",
            b"content-length:%d \r\n",
            b"Content-Length: +%d\r\n",
            b"X-Length: %d\r\n",
            b"X: Content-Length: 2\r\n",
            b"Host: a\r\n",
            b"TE: trailers\r\n",
        ]
    ),
    max_size=4,
)
HEADS = st.builds(
    lambda path, fields, length: (
        (b"POST %b HTTP/1.1\r\n" % path) + b"".join(one % length if b"%d" in one else one for one in fields) + b"\r\n"
    ),
    st.sampled_from([b"/predict", b"/"]),
    FIELDS,
    st.integers(0, 10**12),
)


@given(st.lists(HEADS, max_size=6))
def test_a_head_is_understood_alike_whatever_came_before_it_on_the_connection(heads: list[bytes]) -> None:
    connection = UsualHeads()
    for head in heads:
        again = head.replace(b": 1", b": 21").replace(b":1", b":345")  # often another length alone
        for one in (head, again, head[:-3] + b"7\r\n", head):
            assert connection.read(one) == usual_head(one)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"GET"),
        (b"/predict", b"/predict/batch"),
        (b"/predict", b"/predict?x=1"),
        (b"/predict", b"//predict"),
        (b"/predict", b"http://localhost/predict"),
        (b"1.1", b"1.0"),
        (b"Host: localhost\r\n", b""),
        (b"application/json", b"text/csv"),
        (b"Length: 2", b"Length: 0"),
        (b"Length: 2", b"Length: 3"),
        (b"Length: 2", b"Length: +2"),
        (b"Length: 2", b"Length: 9999999999"),
    ],
)
def test_another_request_goes_the_long_way(old: bytes, new: bytes) -> None:
    assert Direct(told).request_of((HEAD % b"").replace(old, new, 1), came=2) is None


def test_a_body_that_is_not_whole_or_too_large_goes_the_long_way() -> None:
    direct = Direct(told)
    assert direct.request(came=1) is None
    assert direct.request(came=10_000) is not None
    route = direct.boundary.direct(b"/predict")
    assert route is not None
    assert (route.size(b"8", came=100), route.size(b"9", came=100)) == (8, 0)


def test_a_refused_body_is_answered_with_its_problem_and_holds_up_nobody() -> None:
    direct = Direct(told)
    refused, answered = sorted(direct.ask(b"-1", b"02"), reverse=True)
    assert (answered[0], answered[2]) == (200, b"[2]")
    problem = json.loads(refused[2])
    assert (refused[0], problem["status"], problem["detail"]) == (422, 422, "It is negative.")
    assert problem["request_id"].encode() == refused[1][b"x-request-id"]
    assert refused[1][b"content-type"] == b"application/problem+json"
    assert direct.counted("422") == 1.0


def test_who_finds_no_room_is_refused() -> None:
    direct = Direct(told, room=4)  # a caller may hold half of it
    sent = direct.ask(b"01", b"02", b"03")
    assert sorted(status for status, _, _ in sent) == [200, 200, 503]
    assert next(fields for status, fields, _ in sent if status == 503)[b"retry-after"] == b"3"
    assert direct.decided == [1, 2]
    shed = direct.registry.get_sample_value("credit_scoring_requests_shed_total", {"endpoint": "/predict"})
    assert shed == 1.0


def _failing(number: int) -> bytes:
    if number == 1:
        raise KeyError(SECRET)
    return told(number)


def test_an_error_is_answered_and_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    direct = Direct(_failing)
    with caplog.at_level(logging.ERROR):
        sent = direct.ask(b"01", b"02")
    assert [(status, json.loads(body).get("detail") if status > 200 else body) for status, _, body in sent] == [
        (500, "The request could not be answered; the server's log says why."),
        (200, b"[2]"),
    ]
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text
    assert direct.counted("500") == 1.0


def _unrecorded(_: int) -> bytes:
    raise Unrecorded.after(3)


def test_what_cannot_be_recorded_is_refused_for_all() -> None:
    assert [status for status, _, _ in Direct(_unrecorded).ask(b"01", b"02")] == [503, 503]


def test_a_request_past_its_time_limit_is_refused_and_not_decided_on() -> None:
    direct = Direct(told, LIMITS.model_copy(update={"timeout_seconds": 0}))
    assert [status for status, _, _ in direct.ask(b"01")] == [504]
    assert direct.decided == []


def test_a_request_that_nobody_decides_on_is_refused_after_its_time_limit() -> None:
    direct = Direct(told, LIMITS.model_copy(update={"timeout_seconds": 0}))
    direct.route = ScoringRoute(direct.route.answer, 8, 8, direct=lambda *_: None)

    async def run() -> None:
        request = direct.request()
        assert request is not None
        request.begin(b"01")
        request.expire()
        request.set_result(Replies([b"late"]))

    asyncio.run(run())
    assert [status for status, _, _ in direct.sent] == [504]


def _direct_of(service: Service) -> Decide | None:
    return service.engine.routes["/predict"].direct


@pytest.mark.parametrize(
    ("log", "changes", "directly"),
    [
        ({}, {}, True),
        ({"durability": "power"}, {}, False),
        ({}, {"boundary": BoundaryPosition.INNERMOST}, False),
    ],
)
def test_only_what_waits_for_nothing_is_answered_directly(
    small: StoredModel, tmp_path: Path, log: dict[str, Any], changes: dict[str, Any], *, directly: bool
) -> None:
    service = Service(small, tmp_path, log, SERVING.model_copy(update=changes))
    assert (_direct_of(service) is not None) is directly
    service.close()


def test_a_decision_that_cannot_be_told_is_recorded_once(
    small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(small, tmp_path, {})
    answered: list[BaseException | Replies] = []

    def broken(*_: object) -> NoReturn:
        raise KeyError(SECRET)

    monkeypatch.setattr(service.engine.champion, "answers", broken)

    class Kept:
        def done(self) -> bool:
            return False

        def set_result(self, replies: Replies, /) -> None:
            answered.append(replies)

        def set_exception(self, error: BaseException, /) -> None:
            answered.append(error)

    async def run() -> None:
        begin = _direct_of(service)
        assert begin is not None
        for number in range(2):
            begin(json.dumps(service.example).encode(), f"r-{number}", Kept())
        await asyncio.sleep(0)

    asyncio.run(run())
    service.close()
    assert sorted(service.recorded()) == ["r-0", "r-1"]
    assert [type(one) for one in answered] == [Failed, Failed]
