"""Answers that break the HTTP contract, and answers that only add to it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from credit_scoring_client.errors import UnexpectedAnswer
from starlette.responses import HTMLResponse, JSONResponse, Response

from tests.client.examples import APPLICATION, DECISION, DECISION_FIELDS, decided, without


def predict(client):
    return client.predict(APPLICATION, request_id="r-1")


def predict_batch(client):
    return client.predict_batch([APPLICATION], request_id="r-1")


def unexpected(server, run, call, answer):
    server.answers = [answer]
    with pytest.raises(UnexpectedAnswer) as caught:
        run(server.url, call)
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    return caught.value.detail


def test_fields_that_the_contract_has_not_are_ignored(server, run):
    server.answers = [decided(contributions={"EXT_SOURCE_2": 0.5}, digest="ab")]
    assert run(server.url, predict) == DECISION


@pytest.mark.parametrize("changes", [{"reasons": None}, {"reasons": []}])
def test_reasons_may_be_missing(server, run, changes):
    server.answers = [decided(**changes)]
    assert run(server.url, predict).reasons == ()


@pytest.mark.parametrize("text", ["2025-11-22T13:12:00Z", "2025-11-22T14:12:00+01:00", "2025-11-22 13:12:00-00:00"])
def test_a_timestamp_is_in_utc(server, run, text):
    server.answers = [decided(timestamp=text)]
    timestamp = run(server.url, predict).timestamp
    assert (timestamp, timestamp.tzinfo) == (datetime(2025, 11, 22, 13, 12, tzinfo=UTC), UTC)


def test_a_whole_number_may_stand_for_a_number(server, run):
    server.answers = [decided(probability=0)]
    assert repr(run(server.url, predict).probability) == "0.0"


@pytest.mark.parametrize("name", sorted(set(DECISION_FIELDS) - {"request_id", "client_id", "reasons"}))
def test_a_decision_has_every_field(server, run, name):
    assert unexpected(server, run, predict, JSONResponse(without(name))).startswith(f"{name} is no")


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"client_id": 100002}, "client_id is not text"),
        ({"timestamp": "today"}, "timestamp is not a date and time"),
        ({"timestamp": "2025-11-22T13:12:00"}, "timestamp has no time zone"),
        ({"probability": "0.125"}, "probability is not a number"),
        ({"probability": True}, "probability is not a number"),
        ({"prediction": False}, "prediction is not an integer"),
        ({"decision": "maybe"}, "decision is none of approve, refer, decline"),
        ({"risk_level": "low"}, "risk_level is none of LOW, MEDIUM, HIGH, CRITICAL"),
        ({"score": 431.5}, "score is not an integer"),
        ({"reasons": "EXT_SOURCE_2"}, "reasons is not a list"),
        ({"reasons": [{"code": "R01", "text": "Low score"}, "R02"]}, "reasons[1] is not an object"),
        ({"reasons": [{"code": "R01"}]}, "reasons[0].text is not text"),
    ],
)
def test_a_field_of_another_type_is_named_and_not_shown(server, run, changes, detail):
    assert unexpected(server, run, predict, decided(**changes)) == detail


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_probability_is_finite(server, run, number):
    body = decided(probability=0.75).body.replace(b"0.75", number.encode())
    assert unexpected(server, run, predict, Response(body)) == "probability is not finite"


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (HTMLResponse("<h1>Sign in</h1>"), "the body is not JSON"),
        (Response(b""), "the body is not JSON"),
        (JSONResponse([DECISION_FIELDS]), "the body is not a JSON object"),
    ],
    ids=["HTML", "empty", "a list"],
)
def test_a_body_is_a_json_object(server, run, answer, detail):
    assert unexpected(server, run, predict, answer) == detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"results": [DECISION_FIELDS]}, "model_version is not text"),
        ({"model_version": "7"}, "results is not a list"),
        ({"model_version": "7", "results": [1]}, "results[0] is not an object"),
        ({"model_version": "7", "results": []}, "results has 0 rows for 1 applications"),
        ({"model_version": "7", "results": [DECISION_FIELDS] * 2}, "results has 2 rows for 1 applications"),
        ({"model_version": "7", "results": [{**DECISION_FIELDS, "score": None}]}, "results[0].score is not an integer"),
        (
            {"model_version": "7", "results": [{"status": "rejected", "index": 3}]},
            "results[0].index is not the position of its row",
        ),
        ({"model_version": "7", "results": [{"status": "rejected"}]}, "results[0].index is not an integer"),
    ],
)
def test_a_batch_lines_up_with_what_was_sent(server, run, fields, detail):
    assert unexpected(server, run, predict_batch, JSONResponse(fields, headers={"X-Request-ID": "r-1"})) == detail
