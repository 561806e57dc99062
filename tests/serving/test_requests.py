from __future__ import annotations

import json
from typing import Any

import pytest

from serving import Batch, FeaturesRequest, Invalid, PredictRequest, Problem, decode, decode_batch
from serving.errors import NotJson

APPLICATION: dict[str, Any] = {
    "NAME_CONTRACT_TYPE": "Cash loans",
    "AMT_INCOME_TOTAL": 100000,
    "AMT_CREDIT": 200000,
}
SECRET = 987654321.5


def body(**changes: Any) -> bytes:
    return json.dumps({"application": {**APPLICATION, **changes}}).encode()


def batch(*applications: Any) -> Batch:
    content = {"applications": [{"application": application} for application in applications]}
    return decode_batch(json.dumps(content).encode(), limit=3)


def test_absent_and_null_columns_are_missing() -> None:
    request = decode(PredictRequest, body(AMT_ANNUITY=None))
    assert (request.client_id, request.application.AMT_ANNUITY, request.application.EXT_SOURCE_1) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"AMT_CREDIT": None}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": "200000"}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": True}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": -1}, ["application", "AMT_CREDIT"], "Input should be greater than or equal to 0"),
        ({"CNT_CHILDREN": 1.5}, ["application", "CNT_CHILDREN"], "Input should be a multiple of 1"),
        ({"EXT_SOURCE_1": float("nan")}, ["application", "EXT_SOURCE_1"], "Input should be a finite number"),
        ({"EXT_SOURCE_1": float("inf")}, ["application", "EXT_SOURCE_1"], "Input should be a finite number"),
        ({"NAME_CONTRACT_TYPE": " "}, ["application", "NAME_CONTRACT_TYPE"], "Field required"),
        ({"NAME_CONTRACT_TYPE": "XNA"}, ["application", "NAME_CONTRACT_TYPE"], "Field required"),
        ({"NAME_INCOME_TYPE": 3}, ["application", "NAME_INCOME_TYPE"], "Input should be a valid string"),
        ({"TARGET": 1}, ["application", "TARGET"], "Extra inputs are not permitted"),
        ({"SK_ID_CURR": 1}, ["application", "SK_ID_CURR"], "Extra inputs are not permitted"),
        ({"DAYS_EMPLOYED": 5}, ["application", "DAYS_EMPLOYED"], "Input should be less than or equal to 0"),
    ],
)
def test_an_invalid_column_is_named(changes: dict[str, Any], place: list[str], message: str) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**changes))
    assert refusal.value.errors == [{"loc": place, "msg": message}]


def test_a_missing_required_column_is_named() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, b'{"application": {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_CREDIT": 1}}')
    assert refusal.value.errors == [{"loc": ["application", "AMT_INCOME_TOTAL"], "msg": "Field required"}]


@pytest.mark.parametrize("text", [b"", b"{", b"nope", b'{"application": {"AMT_CREDIT": }}', b"\xff\xfe", b"[1,"])
def test_what_is_no_json_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(NotJson):
        decode(PredictRequest, text)


@pytest.mark.parametrize("text", [b"[]", b"null", b"3", b'"text"', b"{}", b'{"application": []}'])
def test_json_of_another_shape_is_invalid(text: bytes) -> None:
    with pytest.raises(Invalid):
        decode(PredictRequest, text)


@pytest.mark.parametrize("client_id", ["", " ", "x" * 65, 3, ["x"]])
def test_a_client_id_is_a_short_text(client_id: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, json.dumps({"client_id": client_id, "application": APPLICATION}).encode())
    assert [error["loc"] for error in refusal.value.errors] == [["client_id"]]


def test_no_refusal_quotes_a_value() -> None:
    wrong = {"AMT_CREDIT": -SECRET, "AMT_ANNUITY": str(SECRET), "CNT_CHILDREN": SECRET, "NAME_INCOME_TYPE": SECRET}
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**wrong))
    assert len(refusal.value.errors) == len(wrong)
    assert "987654321" not in f"{refusal.value} {refusal.value.content('id')} {refusal.value.__cause__}"


@pytest.mark.parametrize("features", [[1.0, "2"], [1.0, float("nan")], [1.0, float("inf")], [True, 1.0], "1,2", None])
def test_a_feature_vector_holds_numbers_and_nulls(features: Any) -> None:
    with pytest.raises(Invalid):
        decode(FeaturesRequest, json.dumps({"features": features}).encode())


def test_a_feature_vector_may_miss_values() -> None:
    assert decode(FeaturesRequest, b'{"features": [1, null, -0.5]}').features == [1.0, None, -0.5]


def test_a_sound_batch_has_nothing_rejected() -> None:
    decoded = batch(APPLICATION, APPLICATION)
    assert (decoded.size, list(decoded.positions), decoded.rejected) == (2, [0, 1], {})


def test_a_bad_application_is_rejected_and_the_others_stay() -> None:
    decoded = batch(APPLICATION, {**APPLICATION, "AMT_CREDIT": -1}, APPLICATION)
    assert (decoded.size, list(decoded.positions), len(decoded.requests)) == (3, [0, 2], 2)
    message = "Input should be greater than or equal to 0"
    assert decoded.rejected == {1: [{"loc": ["application", "AMT_CREDIT"], "msg": message}]}


def test_a_batch_may_be_bad_altogether() -> None:
    decoded = batch({}, 3)
    assert (decoded.size, list(decoded.positions), sorted(decoded.rejected)) == (2, [], [0, 1])


@pytest.mark.parametrize("content", [{}, {"applications": []}, {"applications": 3}, {"applications": [], "x": 1}, []])
def test_a_batch_without_applications_is_invalid(content: Any) -> None:
    with pytest.raises(Problem) as refusal:
        decode_batch(json.dumps(content).encode(), limit=3)
    assert refusal.value.status == 422


def test_a_batch_beyond_the_limit_is_invalid() -> None:
    with pytest.raises(Invalid) as refusal:
        batch(*[APPLICATION] * 4)
    assert refusal.value.errors == [{"loc": ["applications"], "msg": "holds 4 applications, at most 3 are answered"}]


def test_a_refusal_stays_short_however_much_is_wrong() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**{f"{i}".rjust(300, "x"): 1 for i in range(1_000)}))
    assert len(refusal.value.errors) <= 200
    assert max(len(part) for error in refusal.value.errors for part in error["loc"]) == 64


@pytest.mark.parametrize("text", [b"", b"{", b'{"applications": [}', b"\xff\xfe", b"[" * 10_000])
def test_a_batch_that_is_no_json_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(NotJson):
        decode_batch(text, limit=3)
