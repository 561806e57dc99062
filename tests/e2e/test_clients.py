"""The two Python clients against the real service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

import bentoml
import credit_scoring_client
import httpx
import pandas as pd
import pyarrow as pa
import pytest
from bentoml.exceptions import BentoMLException
from credit_scoring_client.answer import CreditDecision, RejectedApplication
from credit_scoring_client.client import AsyncClient, Client
from credit_scoring_client.errors import InvalidRequest

import serving.schemas
from scoring.policy import DecisionKind, RiskLevel
from scoring.store import StoredModel
from tests.home_credit import EXAMPLE
from tests.server import Server

APPLICATION = EXAMPLE["application"]


def test_the_typed_client_knows_the_same_words_as_the_service() -> None:
    assert [*get_args(credit_scoring_client.DecisionName)] == [word.value for word in DecisionKind]
    assert [*get_args(credit_scoring_client.RiskLevelName)] == [word.value for word in RiskLevel]
    known = {field.name for field in fields(CreditDecision)}
    assert known == {*serving.schemas.Decision.model_fields, "reasons"}


def test_the_stock_client_calls_every_scoring_route(server: Server, stored: StoredModel) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        single = client.predict(application=APPLICATION, client_id="7")
        batch = client.predict_batch(applications=[{"application": APPLICATION, "client_id": "8"}])
        features = client.predict_features(features=[None] * len(stored.scorer.features), client_id="9")
    assert (single["client_id"], batch["results"][0]["client_id"], features["client_id"]) == ("7", "8", "9")
    assert single["probability"] == batch["results"][0]["probability"]


def test_the_stock_client_gets_a_rejected_application_whole(server: Server) -> None:
    wrong = {**APPLICATION, "AMT_CREDIT": -1, "NO_SUCH_COLUMN": 1}
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.predict_batch(applications=[{"application": APPLICATION}, {"application": wrong}, 5])
    asked = {"applications": [{"application": APPLICATION}, {"application": wrong}, 5]}
    plain = httpx.post(f"{server.url}/predict/batch", json=asked).json()
    assert answer["results"][1:] == plain["results"][1:]
    assert [(row["index"], row["status"]) for row in answer["results"][1:]] == [(1, "rejected"), (2, "rejected")]
    assert [fault["loc"][-1] for fault in answer["results"][1]["errors"]] == ["AMT_CREDIT", "NO_SUCH_COLUMN"]
    assert set(answer["results"][0]) == set(plain["results"][0])


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("predict", {"application": {**APPLICATION, "AMT_CREDIT": -1}}),
        ("predict", {"application": {**APPLICATION, "AMT_CRDIT": 1}}),
        ("predict", {"application": {}}),
        ("predict", {"application": [APPLICATION]}),
        ("predict", {"application": APPLICATION, "client_id": 7}),
        ("predict_batch", {"applications": []}),
        ("predict_batch", {"applications": {"application": APPLICATION}}),
        ("predict_features", {"features": [1, "2"]}),
        ("predict_features", {"features": [1]}),
    ],
)
def test_what_is_refused_to_others_is_refused_to_the_stock_client_whole(
    server: Server, call: str, body: dict[str, Any]
) -> None:
    path = "/" + call.replace("_", "/")
    plain = httpx.post(f"{server.url}{path}", json=body)
    assert plain.status_code == 422
    with bentoml.SyncHTTPClient(server.url) as client, pytest.raises(BentoMLException) as refused:
        client.call(call, **body)
    told = json.loads(refused.value.message)
    assert (told["status"], told["detail"], told["errors"]) == (422, plain.json()["detail"], plain.json()["errors"])


def test_the_stock_client_may_not_leave_out_or_add_a_part(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        with pytest.raises(TypeError, match="client_ident"):
            client.predict(application=APPLICATION, client_ident="7")
        with pytest.raises(TypeError, match="application"):
            client.predict(client_id="7")


def test_the_asynchronous_stock_client_gets_the_same(server: Server) -> None:
    async def run() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return await client.predict_batch(applications=[{"application": {}}])

    assert asyncio.run(run())["results"][0]["status"] == "rejected"


def test_the_typed_client_calls_every_route(server: Server, stored: StoredModel) -> None:
    with Client(server.url) as client:
        single = client.predict(APPLICATION, client_id="7", request_id="r-7")
        batch = client.predict_batch([("a", APPLICATION), {"AMT_CREDIT": -1}])
        features = client.predict_features([None] * len(stored.scorer.features))
        info = client.model_info()
        assert client.ready()
    assert (single.client_id, single.request_id, single.model_version) == ("7", "r-7", stored.version)
    scored, rejected = batch.results
    assert isinstance(scored, CreditDecision)
    assert isinstance(rejected, RejectedApplication)
    assert (scored.probability, rejected.index) == (single.probability, 1)
    assert (features.client_id, info["digest"]) == (None, stored.scorer.artefact.digest)


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.Table.from_pylist], ids=["frame", "table"])
def test_the_typed_client_sends_tables_of_either_kind(server: Server, kind: Callable[..., Any]) -> None:
    rows = [{**APPLICATION, "client_id": f"c-{number}", "AMT_CREDIT": 50_000.0 * number} for number in range(7)]
    with Client(server.url) as client:
        found = client.predict_table(kind(rows), rows=3, request_id="t")
        plain = client.predict_batch([{**APPLICATION, "AMT_CREDIT": row["AMT_CREDIT"]} for row in rows]).results
    assert isinstance(found, pa.Table if kind is not pd.DataFrame else pd.DataFrame)
    names = ("status", "request_id", "client_id", "probability")
    status, request_ids, clients, probabilities = ([*map(_plain, found[name])] for name in names)
    assert status == ["rejected", *["scored"] * 6]  # a credit of nothing
    assert request_ids == ["t"] * 3 + ["t-1"] * 3 + ["t-2"]
    assert clients == [row["client_id"] for row in rows]
    assert probabilities[1:] == [row.probability for row in plain if isinstance(row, CreditDecision)]


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def test_the_typed_client_raises_what_is_refused(server: Server) -> None:
    with Client(server.url) as client, pytest.raises(InvalidRequest) as refusal:
        client.predict({"AMT_CREDIT": 1})
    assert [list(error.loc) for error in refusal.value.errors] == [
        ["application", "NAME_CONTRACT_TYPE"],
        ["application", "AMT_INCOME_TOTAL"],
    ]


def test_concurrent_callers_get_their_own_answers(server: Server, stored: StoredModel) -> None:
    async def run() -> list[tuple[str | None, float]]:
        async with AsyncClient(server.url) as client:
            calls = (
                client.predict({**APPLICATION, "AMT_CREDIT": 50_000 + 1_000 * i}, client_id=str(i)) for i in range(64)
            )
            return [(decision.client_id, decision.probability) for decision in await asyncio.gather(*calls)]

    answers = asyncio.run(run())
    with Client(server.url) as client:
        alone = [client.predict({**APPLICATION, "AMT_CREDIT": 50_000 + 1_000 * i}).probability for i in range(0, 64, 9)]
    assert [client_id for client_id, _ in answers] == [str(i) for i in range(64)]
    assert [probability for _, probability in answers[::9]] == alone
