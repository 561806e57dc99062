"""Answers as the HTTP contract has them, and what the client makes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from credit_scoring_client.answer import CreditDecision, DecisionReason
from starlette.responses import JSONResponse

APPLICATION = {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_CREDIT": 406597.5, "CNT_CHILDREN": 0, "OWN_CAR_AGE": None}

DECISION_FIELDS: dict[str, Any] = {
    "request_id": "r-1",
    "client_id": "100002",
    "timestamp": "2025-11-22T13:12:00.25Z",
    "model_version": "7",
    "probability": 0.125,
    "prediction": 1,
    "threshold": 0.1,
    "decision": "decline",
    "risk_level": "HIGH",
    "score": 431,
    "reasons": [{"code": "R01", "text": "Low score"}, {"code": "R02", "text": "Large credit"}],
}

DECISION = CreditDecision(
    request_id="r-1",
    client_id="100002",
    timestamp=datetime(2025, 11, 22, 13, 12, 0, 250_000, tzinfo=UTC),
    model_version="7",
    probability=0.125,
    prediction=1,
    threshold=0.1,
    decision="decline",
    risk_level="HIGH",
    score=431,
    reasons=(DecisionReason(code="R01", text="Low score"), DecisionReason(code="R02", text="Large credit")),
)


def decided(**changes: Any) -> JSONResponse:
    return JSONResponse({**DECISION_FIELDS, **changes}, headers={"X-Request-ID": DECISION_FIELDS["request_id"]})


def problem(status: int, headers: dict[str, str] | None = None, **fields: Any) -> JSONResponse:
    return JSONResponse(fields, status, headers, media_type="application/problem+json")


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in DECISION_FIELDS.items() if field != name}
