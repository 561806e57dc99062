"""What callers get: decisions, and the JSON they are written as."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from monitoring.recording import Caller
from scoring import Outcome, RiskLevel, Scores

Answer = dict[str, Any]
"""An answer on its way to JSON; a dictionary because checking a model again costs as much as making the answer."""


class Decision(BaseModel):
    """The decision on one application."""

    request_id: str
    client_id: str | None
    timestamp: str = Field(description="RFC 3339, UTC", examples=["2026-01-31T12:00:00.000Z"])
    model_version: str
    probability: float = Field(ge=0, le=1, description="Calibrated probability of default")
    prediction: Literal[0, 1] = Field(description="1 where the probability reaches the threshold")
    threshold: float = Field(ge=0, le=1, description="The cut-off of the decision policy")
    decision: Outcome
    risk_level: RiskLevel
    score: int = Field(description="Points, higher is better")
    missing: int = Field(ge=0, description="How many of the columns that the model reads are missing")
    unknown: int = Field(ge=0, description="How many columns have a level that the model does not know")
    unknown_columns: list[str] = Field(description="Their names; levels are compared letter for letter")
    withheld: list[str] = Field(
        description="Why an application that the PD would approve is referred: too little is known of it"
    )


class Place(BaseModel):
    """Where a request is invalid, and why."""

    loc: list[str | int]
    msg: str


class Rejection(BaseModel):
    """An application of a batch that was not scored."""

    index: int
    status: Literal["rejected"]
    errors: list[Place]


class BatchAnswer(BaseModel):
    """Decisions and rejections in the order of the request."""

    model_version: str
    results: list[Decision | Rejection]


class ModelInfo(BaseModel):
    """What is known of the model that answers.

    In /predict/features a category is the position of its level in `categories`; any other level is their number.
    """

    name: str
    version: str
    digest: str
    features: list[str]
    categories: dict[str, list[str]]
    required_columns: list[str]
    policy: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]


class Health(BaseModel):
    """The service answers, and with which model."""

    status: Literal["ok"]
    model_version: str


class Counts(BaseModel):
    """Applications over the bins of the drift reference; a feature's last two bins are of unseen and missing values."""

    rows: int
    features: dict[str, list[int]]
    probability: list[int]


class WindowCounts(Counts):
    """Those of a window, which began and ended so many seconds after 1970."""

    start: float
    end: float


class DriftCounts(Counts):
    """Those of all workers since the service started, and those of the last complete window."""

    model: str
    version: str
    digest: str
    window: WindowCounts | None


class ProblemDocument(BaseModel):
    """RFC 9457: why a request was not answered."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Place] | None = None


def decisions(
    scores: Scores,
    callers: Sequence[Caller],
    *,
    model_version: str,
    threshold: float,
) -> list[Answer]:
    """The scores as JSON-ready decisions, one for each caller, in order."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        {
            "request_id": caller.request_id,
            "client_id": caller.client_id,
            "timestamp": timestamp,
            "model_version": model_version,
            "probability": probability,
            "prediction": prediction,
            "threshold": threshold,
            "decision": decision,
            "risk_level": risk_level,
            "score": points,
            "missing": missing,
            "unknown": len(unknown),
            "unknown_columns": unknown,
            "withheld": withheld,
        }
        for caller, probability, prediction, decision, risk_level, points, missing, unknown, withheld in zip(
            callers,
            scores.probability.tolist(),
            scores.prediction.tolist(),
            scores.decision.tolist(),
            scores.risk_level.tolist(),
            scores.points.tolist(),
            scores.missing.tolist(),
            scores.unknown.tolist(),
            scores.withheld.tolist(),
            strict=True,
        )
    ]
