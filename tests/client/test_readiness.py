"""Asking whether the server takes work, and waiting until it does."""

from __future__ import annotations

import pytest
from credit_scoring_client.answer import get
from credit_scoring_client.contract import Attempt, wait_until_ready
from credit_scoring_client.errors import Overloaded, ResponseError, TimedOut
from starlette.responses import PlainTextResponse

from tests.client.examples import problem
from tests.client.servers import listener, url_of


def ready(client):
    return client.ready()


def wait(client):
    return client.wait_until_ready(1.0)


def test_a_server_is_ready_whatever_the_body(server, run):
    server.answers = [PlainTextResponse("\n")]
    assert run(server.url, ready) is True
    assert [(received.method, received.path) for received in server.received] == [("GET", "/readyz")]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_may_recover_is_not_ready(server, run, time, status):
    server.answers = [problem(status, {"Retry-After": "1"})]
    assert run(server.url, ready) is False
    assert time.pauses == []


def test_a_server_that_refuses_connections_is_not_ready(run):
    with listener() as closed:
        url = url_of(closed)
    assert run(url, ready) is False


@pytest.mark.parametrize("call", [ready, wait])
@pytest.mark.parametrize("status", [302, 401, 404])
def test_an_answer_that_waiting_does_not_change_is_raised(server, run, call, status):
    server.answers = [problem(status)]
    with pytest.raises(ResponseError) as caught:
        run(server.url, call)
    assert caught.value.status == status


def test_waiting_ends_once_the_server_is_ready(server, run, time):
    server.answers = [problem(503), problem(502), PlainTextResponse("")]
    run(server.url, wait)
    assert time.pauses == [0.25, 0.25]
    assert len({received.headers["x-request-id"] for received in server.received}) == 1


def test_waiting_ends_in_an_error_that_names_the_last_obstacle(server, run, time):
    server.answers = [problem(503) for _ in range(4)]
    with pytest.raises(TimedOut, match=r"^the server was not ready within 1 s \(request ") as caught:
        run(server.url, wait)
    assert time.pauses == [0.25, 0.25, 0.25]
    assert isinstance(caught.value.__cause__, Overloaded)


def test_waiting_does_not_outlast_a_server_that_never_answers(run):
    with listener() as silent, pytest.raises(TimedOut, match=r"^the server was not ready within 0\.05 s"):
        run(url_of(silent), lambda client: client.wait_until_ready(0.05))


@pytest.mark.parametrize(("timeout", "first"), [(60.0, 5.0), (0.5, 0.5)])
def test_a_probe_ends_in_time_to_ask_again(time, timeout, first):
    request = get("/readyz")
    steps = wait_until_ready(request, timeout, clock=time.clock)
    assert next(steps) == Attempt(request, timeout=first)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_time_to_wait_is_positive(server, run, timeout):
    with pytest.raises(ValueError, match=r"^timeout must be a positive number of seconds$"):
        run(server.url, lambda client: client.wait_until_ready(timeout))
