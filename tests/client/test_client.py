"""What each call of both clients sends, and makes of the answer."""

from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError, replace

import pytest
from credit_scoring_client.answer import (
    AlternativeApplication,
    BatchResult,
    ChangedValue,
    DecisionReason,
    ExplainedDecision,
    ReachingChanges,
    ReasonContribution,
    RejectedApplication,
    post,
)
from credit_scoring_client.client import AsyncClient, Client
from credit_scoring_client.contract import __version__
from credit_scoring_client.errors import ConnectionFailed, InvalidRequest, Unauthorized, UnexpectedAnswer, Violation
from credit_scoring_client.retry import Retry
from starlette.responses import JSONResponse, Response

from tests.client.examples import APPLICATION, DECISION, DECISION_FIELDS, decided, problem, without


def test_predict_sends_one_application_and_reads_the_decision(server, run):
    server.answers = [decided()]
    decision = run(server.url, lambda client: client.predict(APPLICATION, client_id="100002", request_id="r-1"))
    [received] = server.received
    assert decision == DECISION
    assert (received.method, received.path) == ("POST", "/predict")
    assert received.body == {"client_id": "100002", "application": APPLICATION}
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-request-id"] == "r-1"
    assert received.headers["user-agent"] == f"credit-scoring-client/{__version__}"
    assert "authorization" not in received.headers


def test_a_client_id_of_none_is_left_out(server, run):
    server.answers = [JSONResponse(without("client_id"))]
    decision = run(server.url, lambda client: client.predict(APPLICATION))
    assert decision == replace(DECISION, client_id=None)
    assert server.received[0].body == {"application": APPLICATION}


def test_a_call_without_a_request_id_gets_its_own_uuid(server, run):
    server.answers = [decided(), decided()]
    run(server.url, lambda client: client.predict(APPLICATION), lambda client: client.predict(APPLICATION))
    first, second = (uuid.UUID(received.headers["x-request-id"]) for received in server.received)
    assert (first.version, second.version) == (4, 4)
    assert first != second


def test_a_decision_without_its_request_id_has_that_of_the_call(server, run):
    server.answers = [JSONResponse(without("request_id"))]
    decision = run(server.url, lambda client: client.predict(APPLICATION, request_id="mine"))
    assert decision == replace(DECISION, request_id="mine")


def test_predict_batch_keeps_the_order_of_decisions_and_rejections(server, run):
    rejected = {"index": 1, "status": "rejected", "errors": [{"loc": ["application", "AMT_CREDIT"], "msg": "too high"}]}
    rows = [without("model_version"), rejected, {**without("client_id"), "model_version": "8"}]
    server.answers = [JSONResponse({"model_version": "7", "results": rows}, headers={"X-Request-ID": "b-1"})]
    applications = [("100002", APPLICATION), {"AMT_CREDIT": 1e30}, (None, APPLICATION)]
    result = run(server.url, lambda client: client.predict_batch(applications, request_id="b-1"))
    [received] = server.received
    assert result == BatchResult(
        request_id="b-1",
        model_version="7",
        results=(
            DECISION,
            RejectedApplication(index=1, errors=(Violation(("application", "AMT_CREDIT"), "too high"),)),
            replace(DECISION, client_id=None, model_version="8"),
        ),
    )
    assert (received.method, received.path) == ("POST", "/predict/batch")
    assert received.headers["x-request-id"] == "b-1"
    assert received.body == {
        "applications": [
            {"client_id": "100002", "application": APPLICATION},
            {"application": {"AMT_CREDIT": 1e30}},
            {"application": APPLICATION},
        ]
    }


def test_predict_batch_takes_a_generator(server, run):
    server.answers = [JSONResponse({"model_version": "7", "results": [without("reasons")] * 2})]
    result = run(server.url, lambda client: client.predict_batch(APPLICATION for _ in range(2)))
    assert result.results == (replace(DECISION, reasons=()),) * 2


def test_predict_features_sends_the_vector(server, run):
    server.answers = [decided()]
    features = [1, 0.5, float("nan"), None]
    decision = run(server.url, lambda client: client.predict_features(features, client_id="100002", request_id="f-1"))
    [received] = server.received
    assert decision == DECISION
    assert (received.method, received.path) == ("POST", "/predict/features")
    assert received.headers["x-request-id"] == "f-1"
    assert received.body == {"client_id": "100002", "features": [1, 0.5, None, None]}


@pytest.mark.parametrize(("method", "path"), [("model_info", "/model/info"), ("health", "/health")])
def test_descriptions_are_returned_as_they_are(server, run, method, path):
    server.answers = [JSONResponse({"version": "7", "features": ["AMT_CREDIT"]})]
    assert run(server.url, lambda client: getattr(client, method)()) == {"version": "7", "features": ["AMT_CREDIT"]}
    assert [(received.method, received.path) for received in server.received] == [("GET", path)]


def test_the_base_url_may_have_a_path(server, run):
    server.answers = [decided()]
    run(f"{server.url}/scoring/", lambda client: client.predict(APPLICATION))
    assert server.received[0].path == "/scoring/predict"


def test_the_api_key_is_a_bearer_token(server, run):
    server.answers = [decided()]
    run(server.url, lambda client: client.predict(APPLICATION), api_key="s3cret")
    assert server.received[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_a_client_shows_its_address(kind):
    assert repr(kind("http://127.0.0.1:3000/scoring", api_key="s3cret")) == (
        f"{kind.__name__}('http://127.0.0.1:3000/scoring')"
    )


def test_the_api_key_is_shown_neither_by_the_client_nor_by_an_error(server):
    server.answers = [problem(401, title="Unauthorized")]
    with Client(server.url, api_key="s3cret") as client, pytest.raises(Unauthorized) as caught:
        client.predict(APPLICATION)
    shown = [repr(client), str(client), str(caught.value), repr(caught.value), str(caught.getrepr(style="short"))]
    assert [text for text in shown if "s3cret" in text] == []


@pytest.mark.parametrize("api_key", ["", "s3cret\n", "s3cret two", "s3crét"])
def test_an_api_key_that_is_no_header_is_refused_without_showing_it(api_key):
    with pytest.raises(ValueError, match=r"^api_key must be one or more visible ASCII characters$"):
        Client("http://127.0.0.1", api_key=api_key)


@pytest.mark.parametrize("request_id", ["", "a\r\nX-Evil: 1", "é"])
def test_a_request_id_that_is_no_header_is_refused(server, run, request_id):
    with pytest.raises(ValueError, match=r"^request_id must be one or more visible ASCII characters$"):
        run(server.url, lambda client: client.predict(APPLICATION, request_id=request_id))
    assert server.received == []


@pytest.mark.parametrize(
    "base_url",
    ["127.0.0.1:3000", "", "ftp://host", "http://", "http://user:s3cret@host", "http://host?a=1", "http://host#a"],
)
def test_a_base_url_that_is_no_address_is_refused_without_showing_it(base_url):
    with pytest.raises(ValueError, match=r"^base_url must be http://host or https://host, [a-z ]+, and no user name$"):
        Client(base_url)


def test_a_base_url_that_is_no_url_is_refused():
    with pytest.raises(ValueError, match=r"^base_url is not a URL: Invalid port: 'abc'$"):
        Client("http://host:abc")


def test_a_request_does_not_show_what_it_carries():
    request = post("/predict", {"application": APPLICATION}, "r-1")
    assert repr(request) == "Request(method='POST', path='/predict', request_id='r-1')"


def test_a_result_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        DECISION.score = 850


def test_an_error_has_the_request_id_of_the_answer(server, run):
    server.answers = [problem(422, {"X-Request-ID": "theirs"}, title="Unprocessable Content")]
    with pytest.raises(InvalidRequest) as caught:
        run(server.url, lambda client: client.predict(APPLICATION, request_id="mine"))
    assert caught.value.request_id == "theirs"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_api_key_must_be_text(kind):
    with pytest.raises(TypeError, match=r"^api_key must be text$"):
        kind("http://127.0.0.1:3000", api_key=b"secret")


def test_a_server_on_loopback_is_asked_directly_whatever_the_environment_says(server, run, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.answers = [decided()]
    assert run(server.url, lambda client: client.predict(APPLICATION)) == DECISION


def test_an_error_says_that_the_request_went_to_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Client("http://scores.example", retry=Retry(attempts=1)) as client, pytest.raises(ConnectionFailed) as failed:
        client.predict({})
    assert "through the proxy that HTTP_PROXY names; set NO_PROXY=scores.example to bypass it" in str(failed.value)


def test_explain_gives_the_decision_and_what_its_margin_is_made_of(server, run):
    told = {"code": "R01", "text": "Low score"}
    explained = {
        "margin": -1.5,
        "base": -2.25,
        "contributions": [{**told, "contribution": 1.0}, {"code": None, "text": None, "contribution": -0.25}],
        "explained_by": "interventional:0123456789ab",
    }
    server.answers = [JSONResponse({**DECISION_FIELDS, **explained})]
    found = run(server.url, lambda client: client.explain(APPLICATION, client_id="100002", request_id="e-1"))
    [received] = server.received
    assert (received.path, received.body) == ("/explain", {"client_id": "100002", "application": APPLICATION})
    assert found == ExplainedDecision(
        decision=DECISION,
        margin=-1.5,
        base=-2.25,
        contributions=(
            ReasonContribution(reason=DecisionReason(code="R01", text="Low score"), contribution=1.0),
            ReasonContribution(reason=None, contribution=-0.25),
        ),
        explained_by="interventional:0123456789ab",
    )


def test_waterfall_asks_for_a_picture_and_returns_it(server, run):
    server.answers = [Response("<svg>\u2212</svg>", media_type="image/svg+xml")]
    found = run(server.url, lambda client: client.waterfall(APPLICATION, client_id="100002", request_id="e-1"))
    [received] = server.received
    assert (received.path, received.headers["accept"]) == ("/explain", "image/svg+xml")
    assert received.body == {"client_id": "100002", "application": APPLICATION}
    assert found == "<svg>\u2212</svg>"


def test_a_server_that_draws_nothing_is_an_unexpected_answer(server, run):
    server.answers = [JSONResponse(DECISION_FIELDS)]
    with pytest.raises(UnexpectedAnswer, match="the body is not SVG"):
        run(server.url, lambda client: client.waterfall(APPLICATION))


def test_explain_tells_the_changes_where_they_are_asked_for(server, run):
    told = {
        "alternatives": [
            {"columns": [{"column": "AMT_CREDIT", "from": 450000.0, "to": 399000}], "probability": 0.05},
        ],
        "complete": False,
        "says": "The search was cut short.",
    }
    explained = {"margin": -1.5, "base": -1.5, "contributions": [], "explained_by": "path_dependent:0", "changes": told}
    server.answers = [JSONResponse({**DECISION_FIELDS, **explained})]
    found = run(server.url, lambda client: client.explain(APPLICATION, changes=True))
    [received] = server.received
    assert received.body == {"application": APPLICATION, "changes": True}
    credit = ChangedValue(column="AMT_CREDIT", before=450000.0, after=399000.0)
    assert found.changes == ReachingChanges(
        alternatives=(AlternativeApplication(columns=(credit,), probability=0.05),),
        complete=False,
        says="The search was cut short.",
    )


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"alternatives": [], "complete": 1, "says": "x"}, "changes.complete is neither true nor false"),
        ({"alternatives": {}, "complete": True, "says": "x"}, "changes.alternatives is not a list"),
        ([], "changes is not an object"),
    ],
)
def test_changes_of_another_shape_are_an_unexpected_answer(server, run, told, fault):
    explained = {"margin": 0.0, "base": 0.0, "contributions": [], "explained_by": "x", "changes": told}
    server.answers = [JSONResponse({**DECISION_FIELDS, **explained})]
    with pytest.raises(UnexpectedAnswer, match=fault):
        run(server.url, lambda client: client.explain(APPLICATION, changes=True))
