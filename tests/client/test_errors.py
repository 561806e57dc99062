"""Which error stands for which answer, and what it says."""

from __future__ import annotations

import pickle

import pytest
from credit_scoring_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidRequest,
    Overloaded,
    Problem,
    ResponseError,
    ServerError,
    TimedOut,
    Unauthorized,
    UnexpectedAnswer,
    Violation,
)
from credit_scoring_client.retry import Retry
from starlette.responses import HTMLResponse, JSONResponse, Response

from tests.client.examples import APPLICATION, problem

ONCE = Retry(attempts=1)
VIOLATION = Violation(("application", "AMT_CREDIT"), "must be at most 1e9")


def refused(server, run, answer):
    server.answers = [answer]
    with pytest.raises(ResponseError) as caught:
        run(server.url, lambda client: client.predict(APPLICATION, request_id="r-1"), retry=ONCE)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ResponseError),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, ResponseError),
        (405, ResponseError),
        (413, InvalidRequest),
        (415, InvalidRequest),
        (422, InvalidRequest),
        (429, Overloaded),
        (500, ServerError),
        (502, ServerError),
        (503, Overloaded),
        (504, ServerError),
        (599, ServerError),
    ],
)
def test_a_status_has_its_error(server, run, status, kind):
    error = refused(server, run, problem(status, type="https://example.com/p", title="A title", detail="A detail"))
    assert type(error) is kind
    assert error.problem == Problem(status, "A title", "A detail", "https://example.com/p")
    assert (error.status, error.title, error.detail, error.request_id) == (status, "A title", "A detail", "r-1")
    assert str(error) == f"{status} A title; A detail (request r-1)"


def test_an_invalid_request_says_what_is_wrong_where(server, run):
    errors = [{"loc": ["application", "AMT_CREDIT"], "msg": "must be at most 1e9", "type": "unknown"}]
    error = refused(server, run, problem(422, title="Invalid", detail="1 column", errors=errors))
    assert error.errors == (VIOLATION,)
    assert str(error) == "422 Invalid; 1 column; application.AMT_CREDIT: must be at most 1e9 (request r-1)"


def test_a_message_shows_the_first_violations_only(server, run):
    errors = [{"loc": ["features", i], "msg": "no"} for i in range(120)]
    error = refused(server, run, problem(422, title="Invalid", errors=errors))
    assert len(error.errors) == 120
    assert str(error) == "422 Invalid; features.0: no; features.1: no; features.2: no; 117 more (request r-1)"


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>nginx</h1>", 502),
        Response(b"\xff\xfe{", 502, media_type="application/problem+json"),
        Response(b"", 502),
        JSONResponse(["title"], 502),
        JSONResponse({"title": 5, "detail": None, "type": [], "errors": {"loc": []}}, 502),
        JSONResponse({"errors": ["no", {"loc": "a", "msg": "b"}, {"loc": [{}], "msg": "b"}, {"loc": ["a"]}]}, 502),
    ],
    ids=["HTML", "not UTF-8", "empty", "a list", "other types", "malformed errors"],
)
def test_a_body_that_states_no_problem_still_gives_the_error_of_the_status(server, run, answer):
    error = refused(server, run, answer)
    assert error.problem == Problem(502, "Bad Gateway")
    assert str(error) == "502 Bad Gateway (request r-1)"


def test_a_status_without_a_phrase_has_no_title(server, run):
    assert str(refused(server, run, Response(b"", 599))) == "599 (request r-1)"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailed("no answer", "r-1"),
        TimedOut("no answer", "r-1"),
        InvalidRequest(Problem(422, "Invalid", errors=(VIOLATION,)), "r-1"),
        UnexpectedAnswer(Problem(200, "Unexpected answer"), "r-1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - of our own making
    assert type(copy) is type(error)
    assert isinstance(copy, ClientError)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
