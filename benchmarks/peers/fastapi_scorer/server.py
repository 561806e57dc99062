"""FastAPI as its documentation has it: typed body, typed answer, request metrics; this project's scorer behind it."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel

from benchmarks.peers.decision import BatchRequest, Decider, PredictRequest


class ReasonText(BaseModel):
    """A reason of a decline."""

    code: str
    text: str


class Decision(BaseModel):
    """The decision on one application."""

    request_id: str
    client_id: str | None
    timestamp: str
    model_version: str
    probability: float
    prediction: int
    threshold: float
    decision: str
    risk_level: str
    score: int
    missing: int
    unknown: int
    unknown_columns: list[str]
    withheld: list[str]
    reasons: list[ReasonText]


class BatchAnswer(BaseModel):
    """Decisions in the order of the request."""

    results: list[Decision]


def application() -> FastAPI:
    """The application with its routes and metrics."""
    app, decider = FastAPI(), Decider()
    Instrumentator().instrument(app).expose(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict", response_model=Decision)
    async def predict(request: PredictRequest) -> Any:
        return decider.decide([request])[0]

    @app.post("/predict/batch", response_model=BatchAnswer)
    async def predict_batch(request: BatchRequest) -> Any:
        return {"results": decider.decide(request.applications)}

    return app


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
