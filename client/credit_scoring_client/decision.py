"""Decisions on single applications."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .answer import Answer


class Outcome(StrEnum):
    """What happens to an application."""

    APPROVE = "approve"
    REFER = "refer"
    DECLINE = "decline"


class RiskLevel(StrEnum):
    """Bands of PD, from best to worst."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One application decided.

    `probability` is the calibrated PD in [0, 1], `prediction` 1 where it reaches `threshold`, else 0. `score` is in
    points, higher is better. `timestamp` is in UTC. `client_id` is None if none was sent, `reasons` is empty unless
    the server gives reasons. `missing` says how many columns that the model reads are missing, `unknown_columns` which
    have a level that the model does not know. `withheld` says why an application that the PD would approve is referred.
    """

    request_id: str
    client_id: str | None
    timestamp: datetime
    model_version: str
    probability: float
    prediction: int
    threshold: float
    decision: Outcome
    risk_level: RiskLevel
    score: int
    missing: int | None = None
    unknown: int | None = None
    unknown_columns: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def decision_in(answer: Answer) -> Decision:
    """Read a decision; fields that are not of the contract are ignored."""
    return Decision(
        request_id=answer.optional_text("request_id") or answer.request_id,
        client_id=answer.optional_text("client_id"),
        timestamp=answer.moment("timestamp"),
        model_version=answer.text("model_version"),
        probability=answer.number("probability"),
        prediction=answer.integer("prediction"),
        threshold=answer.number("threshold"),
        decision=answer.choice("decision", Outcome),
        risk_level=answer.choice("risk_level", RiskLevel),
        score=answer.integer("score"),
        missing=answer.optional_integer("missing"),
        unknown=answer.optional_integer("unknown"),
        unknown_columns=answer.texts("unknown_columns"),
        withheld=answer.texts("withheld"),
        reasons=answer.texts("reasons"),
    )
