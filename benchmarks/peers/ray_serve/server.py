"""Ray Serve with one replica on a local cluster of its own."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from benchmarks.peers.decision import BatchRequest, Decider, PredictRequest


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class CreditScoring:
    """The scorer as a deployment."""

    def __init__(self) -> None:
        self.decider = Decider()

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        return JSONResponse(self._answer(request.url.path, await request.body()))

    def _answer(self, path: str, body: bytes) -> Any:
        if path == "/predict":
            return self.decider.decide([PredictRequest.model_validate_json(body)])[0]
        if path == "/predict/batch":
            return {"results": self.decider.decide(BatchRequest.model_validate_json(body).applications)}
        return {"status": "ok"}


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["RAY_TEMPORARY"])
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(CreditScoring.bind(), blocking=True)  # type: ignore[attr-defined]  # the decorator makes it a deployment
