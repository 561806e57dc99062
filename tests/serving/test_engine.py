"""The decision engine behind the boundary, with a real decision log."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from decision_log.format import APPLICATION_ONLY
from decision_log.reader import DecisionLogReader
from decision_log.replay import replay
from monitoring.recorder import LOG_VARIABLE
from scoring.artefact import Artefact
from scoring.policy import ExploreRule
from scoring.reasons import ReasonMethod, ReasonReference
from scoring.scorer import Scores, with_conformance
from scoring.store import StoredModel
from serving.app import Boundary
from serving.engine import DecisionEngine
from serving.histories import ClientHistories
from serving.idempotency import Idempotency, kept_answers
from serving.request_metrics import Traffic
from serving.schemas import Requests, example_of
from serving.settings import ServingSettings
from serving.variants import Variant
from tests.decision_log.models import kept
from tests.monitoring.recording import Worker, settings
from tests.server import ROOT
from tests.serving.test_boundary import OPEN, PAGES

SERVING = ServingSettings.load(ROOT / "configs" / "serving.yaml")
PATIENT = SERVING.limits.model_copy(update={"timeout_seconds": 3600})
IMPATIENT = SERVING.limits.model_copy(update={"timeout_seconds": 0.05})


class Service:
    """A boundary around the routes of an engine that records; `late` has a time limit of 50 ms."""

    def __init__(
        self,
        model: StoredModel,
        folder: Path,
        log: Mapping[str, Any],
        serving: ServingSettings = SERVING,
        *,
        histories: ClientHistories | None = None,
        traffic: Traffic | None = None,
        application_only: StoredModel | None = None,
    ) -> None:
        self.folder = folder / "log"
        shown = serving.reasons.in_declines
        worker = Worker(model, folder / "counts", self.folder, settings(log=log), with_reasons=shown)
        self.recorder = worker.recorder
        portfolio = model.scorer.artefact.portfolio
        self.example = example_of(portfolio, model.scorer.artefact)
        second = None
        if application_only is not None:
            recorder = worker.beside(application_only, APPLICATION_ONLY)
            second = Variant(APPLICATION_ONLY, application_only, serving, lambda *_: None, recorder)
        self.engine = DecisionEngine(
            model, Requests(portfolio), serving, lambda *_: None, self.recorder,
            application_only=second, histories=histories, registry=CollectorRegistry(),
        )  # fmt: skip
        self.traffic = traffic = traffic or Traffic([0.1], registry=CollectorRegistry())
        answers = kept_answers({LOG_VARIABLE: str(self.folder)}, PATIENT, 24)
        self.idempotency = Idempotency(answers, traffic, 1)
        routes = self.engine.routes
        self._boundaries = [
            Boundary(PAGES, limits, OPEN, traffic, lambda: routes, idempotency=self.idempotency)
            for limits in (PATIENT, IMPATIENT)
        ]

    async def post(self, path: str, body: object, *, late: bool = False) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
        return await self.send(path, json.dumps(body).encode(), headers, late=late)

    async def send(self, path: str, body: bytes, headers: Mapping[str, str], *, late: bool = False) -> httpx.Response:
        transport = httpx.ASGITransport(self._boundaries[late])
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=body, headers=headers)

    def close(self) -> None:
        self.idempotency.close()
        for variant in self.engine.split.variants:
            variant.close()

    def recorded(self) -> list[str]:
        tables = DecisionLogReader(self.folder).tables(["request_id"])
        return [name for table in tables for name in table["request_id"].to_pylist()]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_decision_that_outlasts_its_time_limit_is_recorded_once_and_given_to_a_repetition(
    small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    service = Service(small, tmp_path, {"durability": "power"})
    stalled, flush = threading.Event(), os.fdatasync

    def stall(descriptor: int) -> None:
        stalled.wait()
        flush(descriptor)

    monkeypatch.setattr(os, "fdatasync", stall)
    body = service.example if path == "/predict" else {"applications": [service.example]}

    async def run() -> list[httpx.Response]:
        answers = [await service.post(path, body, late=True), await service.post(path, body)]
        stalled.set()
        await service.idempotency.settled(3600)
        return [*answers, await service.post(path, body)]

    late, early, answer = asyncio.run(run())
    service.close()
    assert [late.status_code, early.status_code, early.headers["retry-after"]] == [504, 409, "1"]
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (200, "true")
    assert service.recorded() == [late.headers["x-request-id"]]


def test_a_batch_that_is_recorded_after_its_time_limit_is_not_decided_again(
    small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(small, tmp_path, {})
    stalled, record = threading.Event(), service.recorder.record

    def stall(*arguments: Any) -> Scores:
        stalled.wait()
        return record(*arguments)

    monkeypatch.setattr(service.recorder, "record", stall)
    body = {"applications": [service.example] * 3}

    async def run() -> list[httpx.Response]:
        late = await service.post("/predict/batch", body, late=True)
        stalled.set()
        await service.idempotency.settled(3600)
        return [late, await service.post("/predict/batch", body)]

    late, answer = asyncio.run(run())
    service.close()
    assert [late.status_code, answer.headers["idempotency-replayed"]] == [504, "true"]
    assert service.recorded() == [late.headers["x-request-id"]] * 3


def test_explain_records_no_reasons_where_declines_have_none(artefact: Artefact, tmp_path: Path) -> None:
    """The header of such a log says that it holds none, and a replay holds the records to it."""
    policy = replace(artefact.policy, cutoff=1e-9, refer_from=1e-9, refer_to=1e-9)
    reasons = SERVING.reasons.model_copy(update={"in_declines": False})
    with kept("silent", with_conformance(replace(artefact, policy=policy))) as model:
        service = Service(model, tmp_path, {}, SERVING.model_copy(update={"reasons": reasons}))
        answer = asyncio.run(service.post("/explain", service.example)).json()
        service.close()
        found = replay(DecisionLogReader(service.folder))
    assert (answer["decision"], bool(answer["reasons"])) == ("decline", True)
    assert (found.proven, found.replayed, found.without_reasons) == (True, 1, 1)


@pytest.mark.parametrize("route", ["/predict", "/explain", "/predict/batch"])
def test_an_explored_decline_is_answered_as_it_is_recorded(artefact: Artefact, tmp_path: Path, route: str) -> None:
    explore = ExploreRule(share=1 - 1e-9, up_to=1.0)
    policy = replace(artefact.policy, cutoff=1e-9, refer_from=1e-9, refer_to=1e-9, completeness=None, explore=explore)
    with kept("exploring", with_conformance(replace(artefact, policy=policy))) as model:
        service = Service(model, tmp_path, {})
        one = {**service.example, "client_id": "7"}
        answer = asyncio.run(service.post(route, {"applications": [one]} if route == "/predict/batch" else one)).json()
        service.close()
        found = replay(DecisionLogReader(service.folder))
    decision = answer["results"][0] if route == "/predict/batch" else answer
    assert (decision["decision"], decision["prediction"]) == ("approve", 1)
    assert (found.proven, found.replayed) == (True, 1)
    [table] = DecisionLogReader(service.folder).tables(["decision", "explored", "reasons"])
    assert table.to_pylist() == [{"decision": "approve", "explored": True, "reasons": ""}]


def test_reasons_of_larger_trees_do_not_hold_up_the_event_loop(
    artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = with_conformance(replace(artefact, reasons=ReasonReference(ReasonMethod.PATH_DEPENDENT)))
    with kept("larger", small) as model:
        monkeypatch.setattr(model.scorer.model, "tables", None)  # as trees of more than eight leaves have none
        monkeypatch.setattr(model.scorer, "explainer", model.scorer._explainer())
        service = Service(model, tmp_path, {})
        threads, record = [], service.recorder.record

        def noted(*arguments: Any) -> Scores:
            threads.append(threading.current_thread().name)
            return record(*arguments)

        monkeypatch.setattr(service.recorder, "record", noted)
        answers = [asyncio.run(service.post("/explain", service.example))]
        service.close()
    assert [answer.status_code for answer in answers] == [200]
    assert threads == ["reasons_0"]
