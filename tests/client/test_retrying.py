"""Calls that are tried again, and calls that are not, against servers."""

from __future__ import annotations

import uuid

import httpx
import pytest
from credit_scoring_client.answer import answer_in, get
from credit_scoring_client.client import Client
from credit_scoring_client.contract import NOT_OFFERED, Attempt, exchange
from credit_scoring_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    ResponseError,
    ServerError,
    TimedOut,
)
from credit_scoring_client.retry import Clock, Retry
from starlette.responses import JSONResponse

from tests.client.examples import APPLICATION, DECISION, decided, problem
from tests.client.servers import End, broken_server, listener, url_of

RETRY = Retry(attempts=3, first_pause=0.1, draw=lambda: 0.5)

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"version": "7"}'
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def predict(client):
    return client.predict(APPLICATION)


def model_info(client):
    return client.model_info()


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_is_asked_again_under_the_same_request_id(server, run, time, status):
    server.answers = [problem(status), problem(status), decided()]
    assert run(server.url, predict, retry=RETRY) == DECISION
    assert time.pauses == [0.05, 0.1]
    assert len({received.headers["x-request-id"] for received in server.received}) == 1
    assert [received.body for received in server.received] == [{"application": APPLICATION}] * 3


def test_the_last_answer_is_raised_when_the_attempts_are_used_up(server, run, time):
    server.answers = [problem(503), problem(503), problem(429, title="Too Many Requests", detail="queue full")]
    with pytest.raises(Overloaded) as caught:
        run(server.url, predict, retry=RETRY)
    assert (caught.value.status, caught.value.detail) == (429, "queue full")
    assert caught.value.request_id == server.received[0].headers["x-request-id"]
    assert time.pauses == [0.05, 0.1]


@pytest.mark.parametrize(
    ("value", "pause"),
    [("3", 3.05), ("3600", 20.05), ("Sat, 22 Nov 2025 13:00:07 GMT", 7.05), ("soon", 0.05)],
)
def test_retry_after_is_honoured_up_to_its_cap(server, run, time, value, pause):
    server.answers = [problem(503, {"Retry-After": value}), decided()]
    assert run(server.url, predict, retry=RETRY) == DECISION
    assert time.pauses == [pause]


def test_a_date_that_is_past_by_the_real_clock_needs_no_wait(server):
    server.answers = [problem(503, {"Retry-After": "Sat, 22 Nov 2025 13:00:07 GMT"}), decided()]
    with Client(server.url, retry=Retry(within=0, draw=lambda: 0.0), clock=Clock(monotonic=lambda: 0.0)) as client:
        assert client.predict(APPLICATION) == DECISION


def test_no_attempt_starts_later_than_the_policy_says(server, run, time):
    server.answers = [problem(503, {"Retry-After": "4"}) for _ in range(3)]
    with pytest.raises(Overloaded):
        run(server.url, predict, retry=Retry(attempts=99, within=10, draw=lambda: 0.0))
    assert time.pauses == [4.0, 4.0]


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 408, 413, 415, 422, 500, 501, 502, 504])
def test_any_other_status_is_final(server, run, time, status):
    server.answers = [problem(status, {"Retry-After": "1", "Location": "/elsewhere"})]
    with pytest.raises(ResponseError) as caught:
        run(server.url, predict, retry=RETRY)
    assert caught.value.status == status
    assert time.pauses == []


def test_every_attempt_of_a_call_has_the_same_idempotency_key_and_every_call_its_own(server, run):
    server.answers = [problem(503), problem(409, {"Retry-After": "1"}), decided(), decided()]
    assert run(server.url, predict, predict, retry=RETRY) == DECISION
    first, second, third, other = (received.headers["idempotency-key"] for received in server.received)
    assert first == second == third != other
    assert [uuid.UUID(key.strip('"')).version for key in (first, other)] == [4, 4]


def test_a_conflict_that_does_not_pass_is_final(server, run, time):
    server.answers = [problem(409)]
    with pytest.raises(ResponseError) as caught:
        run(server.url, predict, retry=RETRY)
    assert (caught.value.status, time.pauses) == (409, [])


def test_a_server_that_honours_no_keys_is_told_none_from_then_on(server, run):
    server.answers = [problem(400, type=NOT_OFFERED), decided(), decided()]
    assert run(server.url, predict, predict) == DECISION
    assert ["idempotency-key" in received.headers for received in server.received] == [True, False, False]
    assert len({received.headers["x-request-id"] for received in server.received[:2]}) == 1


def test_no_route_depends_on_a_key(server, run):
    server.answers = [problem(400, type=NOT_OFFERED), problem(422)]
    with pytest.raises(InvalidRequest) as caught:
        run(server.url, lambda client: client.explain(APPLICATION))
    assert caught.value.status == 422
    assert ["idempotency-key" in received.headers for received in server.received] == [True, False]


@pytest.mark.parametrize("fields", [{}, {"type": "about:blank", "detail": "Idempotency-Key"}])
def test_any_other_400_is_an_error_and_the_key_is_sent_from_then_on(server, run, fields):
    server.answers = [problem(400, **fields), decided()]
    with pytest.raises(InvalidRequest) as caught:
        run(server.url, predict)
    assert caught.value.status == 400
    assert run(server.url, predict) == DECISION
    assert ["idempotency-key" in received.headers for received in server.received] == [True, True]


def test_after_an_attempt_of_unknown_outcome_the_key_is_never_left_out(run, time):
    refusal = f'{{"type": "{NOT_OFFERED}"}}'.encode()
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(refusal)
    with broken_server((b"HTTP/1.1 200",), (head + refusal,)) as url, pytest.raises(InvalidRequest) as caught:
        run(url, predict, retry=RETRY)
    assert (caught.value.problem.type, time.pauses) == (NOT_OFFERED, [0.05])


def test_after_a_refusal_to_do_the_work_the_key_is_left_out_where_none_is_honoured(server, run, time):
    server.answers = [problem(503), problem(400, type=NOT_OFFERED), decided()]
    assert run(server.url, predict, retry=RETRY) == DECISION
    assert ["idempotency-key" in received.headers for received in server.received] == [True, True, False]


@pytest.mark.parametrize("status", [429, 503])
def test_health_is_asked_once(server, run, time, status):
    server.answers = [problem(status)]
    with pytest.raises(Overloaded):
        run(server.url, lambda client: client.health(), retry=RETRY)
    assert time.pauses == []


def test_a_kept_alive_connection_that_the_server_closes_is_replaced(run, time):
    with broken_server((ANSWER, End.CLOSE), (ANSWER,)) as url:
        assert run(url, model_info, model_info, retry=RETRY) == {"version": "7"}
    assert time.pauses == [0.05]


@pytest.mark.parametrize(
    "broken",
    [End.CLOSE, End.RESET, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"SSH-2.0-OpenSSH_9.6\r\n", OVERLOADED],
    ids=["closed", "reset", "cut short", "not HTTP", "closed after 503"],
)
def test_a_broken_connection_is_tried_again(run, broken):
    with broken_server((broken,), (ANSWER,)) as url:
        assert run(url, model_info, retry=RETRY) == {"version": "7"}


def test_a_connection_that_stays_broken_is_an_error(run, time):
    with broken_server((End.CLOSE,), (End.CLOSE,), (End.CLOSE,)) as url, pytest.raises(ConnectionFailed) as caught:
        run(url, lambda client: client.predict(APPLICATION, request_id="mine"), retry=RETRY)
    assert caught.value.request_id == "mine"
    assert str(caught.value) == (
        "no answer to POST /predict: RemoteProtocolError: Server disconnected without sending a response. "
        "(request mine)"
    )
    assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)
    assert time.pauses == [0.05, 0.1]


def test_a_refused_connection_is_tried_again(run, time):
    with listener() as closed:
        url = url_of(closed)
    with pytest.raises(ConnectionFailed, match=r"^no answer to POST /predict: ConnectError: "):
        run(url, predict, retry=RETRY)
    assert time.pauses == [0.05, 0.1]


def test_a_read_timeout_is_final(run, time):
    with listener() as silent, pytest.raises(TimedOut, match=r"^no answer to POST /predict: ReadTimeout"):
        run(url_of(silent), predict, retry=RETRY, timeout=1.0)
    assert time.pauses == []


def test_a_connect_timeout_is_tried_again_and_raised_as_a_timeout():
    steps = exchange(get("/model/info", "mine"), retry=RETRY, clock=Clock(monotonic=lambda: 0.0), read=answer_in)
    assert next(steps) == Attempt(get("/model/info", "mine"))
    assert steps.send(httpx.ConnectTimeout("")) == Attempt(get("/model/info", "mine"), after=0.05)
    assert steps.send(httpx.ConnectTimeout("")) == Attempt(get("/model/info", "mine"), after=0.1)
    with pytest.raises(TimedOut, match=r"^no answer to GET /model/info: ConnectTimeout \(request mine\)$"):
        steps.send(httpx.ConnectTimeout(""))


def test_a_body_that_cannot_be_decoded_is_an_error(server, run):
    server.answers = [JSONResponse({}, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(ConnectionFailed, match=r"^no answer to GET /model/info: DecodingError: ") as caught:
        run(server.url, model_info)
    assert isinstance(caught.value, ClientError)
    assert not isinstance(caught.value, ServerError)
