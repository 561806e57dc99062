"""What the peers with this project's scorer share: the request, the scorer and the decisions."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.request import Applications, Record
from scoring.artefact import Artefact
from scoring.scorer import Scorer

_LANGUAGE = "en"
# Servers want the types of bodies when they are defined: the model must be known when this module is loaded.
_FOLDER = Path(os.environ["ARTEFACT"])
_ARTEFACT = Artefact.read(_FOLDER)
_APPLICATIONS = Applications(_ARTEFACT.portfolio)


class PredictRequest(Record):
    """One application to score."""

    client_id: str | None = None
    application: _APPLICATIONS.model  # type: ignore[name-defined]  # a model made from the declaration


class BatchRequest(Record):
    """Applications to score together."""

    applications: list[PredictRequest]


class Decider:
    """What /predict of this service decides and answers, reasons of declines included."""

    def __init__(self) -> None:
        self._version = _FOLDER.name
        self._scorer = Scorer(_ARTEFACT)
        reasons = _ARTEFACT.portfolio.reasons or ()
        self._told = {reason: {"code": reason.code, "text": reason.text(_LANGUAGE)} for reason in reasons}

    def decide(self, requests: Sequence[PredictRequest]) -> list[dict[str, Any]]:
        """One JSON-ready decision for each request, in order."""
        scores = self._scorer.score(_APPLICATIONS.columns_of([request.application for request in requests]))
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [
            {
                "request_id": uuid.uuid4().hex,
                "client_id": request.client_id,
                "timestamp": timestamp,
                "model_version": self._version,
                "probability": probability,
                "prediction": prediction,
                "threshold": self._scorer.artefact.policy.cutoff,
                "decision": decision,
                "risk_level": risk_level,
                "score": points,
                "missing": missing,
                "unknown": len(unknown),
                "unknown_columns": unknown,
                "withheld": withheld,
                "reasons": [self._told[reason] for reason in reasons],
            }
            for (
                request, probability, prediction, decision, risk_level, points, missing, unknown, withheld, reasons,
            ) in zip(
                requests,
                scores.probability.tolist(),
                scores.prediction.tolist(),
                scores.decision.tolist(),
                scores.risk_level.tolist(),
                scores.points.tolist(),
                scores.missing.tolist(),
                scores.unknown.tolist(),
                scores.withheld.tolist(),
                scores.reasons.tolist(),
                strict=True,
            )
        ]  # fmt: skip
