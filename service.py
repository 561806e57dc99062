"""The BentoML boundary: decode -> score -> encode."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, cast

import bentoml
import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from features import Columns, Record, columns_of, concatenate
from scoring import Scores, StoredModel, load_stored
from serving import (
    DECODED,
    EXAMPLE,
    REQUEST_ID,
    Batch,
    BatchAnswer,
    Boundary,
    Decision,
    FeaturesRequest,
    Invalid,
    Pages,
    PredictRequest,
    Problem,
    Runner,
    ServingSettings,
    batch_request,
    decisions,
    decode,
    decode_batch,
    problem_response,
)

SETTINGS = ServingSettings.load(
    Path(os.environ.get("CREDIT_SCORING_SETTINGS", Path(__file__).parent / "configs" / "serving.yaml"))
)
Handler = Callable[..., Awaitable[Response]]


class _DecodedAtTheBoundary(bentoml.IODescriptor):  # type: ignore[misc]
    """A request body that the boundary has decoded already."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:  # noqa: ARG003 - BentoML's signature
        """The decoded request."""
        return request.scope[DECODED]


class PredictInput(_DecodedAtTheBoundary, PredictRequest):
    """Body of /predict."""


class FeaturesInput(_DecodedAtTheBoundary, FeaturesRequest):
    """Body of /predict/features."""


_BATCH_REQUEST = batch_request(SETTINGS.limits.batch_applications)


class BatchInput(_DecodedAtTheBoundary, _BATCH_REQUEST):  # type: ignore[valid-type, misc]
    """Body of /predict/batch."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:  # noqa: ARG003 - BentoML's signature
        """The decoded batch in the place of its applications."""
        return cls.model_construct(applications=request.scope[DECODED])


def _refusing(handler: Handler) -> Handler:
    """Answer a Problem raised by the handler, which BentoML would log and mask."""

    @wraps(handler)
    async def answer(self: CreditScoring, *args: Any, **kwargs: Any) -> Response:
        try:
            return await handler(self, *args, **kwargs)
        except Problem as refusal:
            return problem_response(refusal, REQUEST_ID.get())

    return answer


@bentoml.service(name="credit_scoring", **SETTINGS.bentoml)
class CreditScoring:
    """Credit decisions on loan applications."""

    def __init__(self) -> None:
        self.served = load_stored(SETTINGS.model)
        scorer = self.served.scorer
        self._applications: Runner[Columns] = Runner(scorer.score, concatenate, SETTINGS.runner)
        self._matrices: Runner[NDArray[np.float64]] = Runner(scorer.score_matrix, np.concatenate, SETTINGS.runner)
        scorer.score(columns_of([PredictRequest.model_validate(EXAMPLE).application]))  # what is set up on first use
        gc.collect()
        gc.freeze()

    @bentoml.api(route="/predict", input_spec=PredictInput, output_spec=Decision)  # type: ignore[untyped-decorator]
    @_refusing
    async def predict(self, application: Record, client_id: str | None = None) -> Response:
        """Score one application."""
        scores = await self._applications.score(columns_of([application]))
        return _json(self._decisions(scores, [client_id])[0])

    @bentoml.api(route="/predict/features", input_spec=FeaturesInput, output_spec=Decision)  # type: ignore[untyped-decorator]
    @_refusing
    async def predict_features(self, features: list[float | None], client_id: str | None = None) -> Response:
        """Score one row of the model matrix."""
        expected = len(self.served.scorer.features)
        if len(features) != expected:
            fault = {"loc": ["features"], "msg": f"must hold {expected} numbers, as /model/info lists them"}
            raise Invalid("The request does not fit its schema.", errors=[fault])
        scores = await self._matrices.score(np.array([features], dtype=np.float64))
        return _json(self._decisions(scores, [client_id])[0])

    @bentoml.api(route="/predict/batch", input_spec=BatchInput, output_spec=BatchAnswer)  # type: ignore[untyped-decorator]
    @_refusing
    async def predict_batch(self, applications: Batch) -> Response:
        """Score many applications; an invalid one is rejected alone."""
        return await asyncio.to_thread(self._answer_batch, applications, REQUEST_ID.get())

    def _answer_batch(self, batch: Batch, request_id: str) -> Response:
        results: list[Any] = [None] * batch.size
        for position, errors in batch.rejected.items():
            results[position] = {"index": position, "status": "rejected", "errors": errors}
        if batch.requests:
            scores = self.served.scorer.score(columns_of([request.application for request in batch.requests]))
            client_ids = [request.client_id for request in batch.requests]
            scored = self._decisions(scores, client_ids, request_id)
            for position, decision in zip(batch.positions, scored, strict=True):
                results[position] = decision
        return _json({"model_version": self.served.version, "results": results})

    def _decisions(
        self, scores: Scores, client_ids: Sequence[str | None], request_id: str | None = None
    ) -> list[dict[str, Any]]:
        return decisions(
            scores,
            client_ids,
            request_id=request_id or REQUEST_ID.get(),
            model_version=self.served.version,
            threshold=self.served.scorer.artefact.policy.cutoff,
        )


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")


def _served() -> StoredModel:
    return cast("CreditScoring", bentoml.get_current_service()).served


_SERVICE = cast("bentoml.Service[Any]", CreditScoring)
_SERVICE.mount_asgi_app(Pages(_served, batch_limit=SETTINGS.limits.batch_applications).app)
_SERVICE.add_asgi_middleware(
    Boundary,
    limits=SETTINGS.limits,
    decoders={
        "/predict": (partial(decode, PredictRequest), SETTINGS.limits.application_bytes),
        "/predict/features": (partial(decode, FeaturesRequest), SETTINGS.limits.application_bytes),
        "/predict/batch": (partial(decode_batch, _BATCH_REQUEST), SETTINGS.limits.body_bytes),
    },
)
