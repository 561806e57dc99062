"""The original design: FastAPI with a sync handler, pandas features and a scikit-learn Pipeline loaded from MLflow."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import mlflow
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.original_design.features import with_domain_features
from benchmarks.peers.original_design.train import ALIAS, MODEL

THRESHOLD = 0.3282
_LEVELS = ((0.2, "LOW"), (0.4, "MEDIUM"), (0.6, "HIGH"), (1.0, "CRITICAL"))


class PredictionInput(BaseModel):
    """One application."""

    application: dict[str, float | str | None]
    client_id: str | None = None


class BatchInput(BaseModel):
    """Many applications."""

    applications: list[PredictionInput]


class PredictionOutput(BaseModel):
    """One prediction."""

    prediction: int
    probability: float
    risk_level: str
    client_id: str | None
    timestamp: str
    model_version: str


class BatchOutput(BaseModel):
    """Predictions in the order of the request."""

    results: list[PredictionOutput]


def application() -> FastAPI:
    """The application with the registered Pipeline."""
    app, model = FastAPI(), mlflow.sklearn.load_model(f"models:/{MODEL}@{ALIAS}")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post("/predict")
    def predict(request: PredictionInput) -> PredictionOutput:
        return _predictions(model, [request])[0]

    @app.post("/predict/batch")
    def predict_batch(request: BatchInput) -> BatchOutput:
        return BatchOutput(results=_predictions(model, request.applications))

    return app


def _predictions(model: Any, requests: list[PredictionInput]) -> list[PredictionOutput]:
    frame = with_domain_features(pd.DataFrame([request.application for request in requests]))
    probabilities = model.predict_proba(frame)[:, 1].tolist()
    return [
        PredictionOutput(
            prediction=int(probability >= THRESHOLD),
            probability=probability,
            risk_level=next(level for bound, level in _LEVELS if probability <= bound),
            client_id=request.client_id,
            timestamp=datetime.now(UTC).isoformat(),
            model_version=ALIAS,
        )
        for request, probability in zip(requests, probabilities, strict=True)
    ]


if __name__ == "__main__":
    uvicorn.run(
        application(),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
