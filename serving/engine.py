"""The decision engine: from the bodies of scoring requests to those of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from features import Columns, columns_of, concatenate
from scoring import Scores, StoredModel

from .answers import Answer, decisions
from .boundary import ScoringRoute
from .errors import Invalid
from .example import EXAMPLE
from .exchange import request_id
from .requests import Batch, FeaturesRequest, PredictRequest, decode, decode_batch
from .runner import EmbeddedRunner, Observer, RemoteRunner, Runner
from .settings import ServingSettings

Result = TypeVar("Result")
Matrix = NDArray[np.float64]
"""A model matrix, shape (n, features)."""
Margins = NDArray[np.float64]
"""Raw log-odds of default, shape (n,)."""


class DecisionEngine:
    """Answers scoring requests with the decisions of one model.

    Parameters
    ----------
    served : the model
    observe : is told of every batch of single requests
    ask : asks the model for margins where it runs as a service of its own; None where it is embedded
    """

    def __init__(
        self,
        served: StoredModel,
        settings: ServingSettings,
        observe: Observer,
        ask: Callable[[Matrix], Awaitable[Margins]] | None = None,
    ) -> None:
        self.served = served
        self._limits = settings.limits
        self._background = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._ask = ask
        scorer, runner = served.scorer, settings.runner
        self._applications: Runner[Columns]
        self._matrices: Runner[Matrix]
        if ask is None:
            self._applications = EmbeddedRunner(scorer.score, concatenate, runner, observe)
            self._matrices = EmbeddedRunner(scorer.score_matrix, np.concatenate, runner, observe)
        else:
            self._applications = RemoteRunner(self._score, concatenate, runner, observe)
            self._matrices = RemoteRunner(self._score_matrix, np.concatenate, runner, observe)

    async def _score(self, columns: Columns) -> Scores:
        return await self._score_matrix(self.served.scorer.transformer.transform(columns))

    async def _score_matrix(self, matrix: Matrix) -> Scores:
        return self.served.scorer.decide(await self._margins(matrix))

    async def _margins(self, matrix: Matrix) -> Margins:
        return await self._ask(matrix) if self._ask else self.served.scorer.model.margins(matrix)

    def warm_up(self) -> None:
        """Do once what the first request would do for the first time."""
        scores = self.served.scorer.score(columns_of([PredictRequest.model_validate(EXAMPLE).application]))
        to_json(self._decisions(scores, [None], request_id()))

    @property
    def routes(self) -> dict[str, ScoringRoute]:
        """The scoring routes by path."""
        limits = self._limits
        single = (limits.application_bytes, limits.in_flight)
        return {
            "/predict": ScoringRoute(self._predict, *single),
            "/predict/features": ScoringRoute(self._predict_features, *single),
            "/predict/batch": ScoringRoute(self._predict_batch, limits.body_bytes, limits.batches_in_flight),
        }

    async def predict(self, request: PredictRequest) -> Answer:
        """The decision on one application; see `answers.Decision`."""
        scores = await self._applications.score(columns_of([request.application]))
        return self._decisions(scores, [request.client_id], request_id())[0]

    async def predict_features(self, request: FeaturesRequest) -> Answer:
        """The decision on one row of the model matrix; Invalid if it has another width."""
        expected = len(self.served.scorer.features)
        if len(request.features) != expected:
            fault = {"loc": ["features"], "msg": f"must hold {expected} numbers, as /model/info lists them"}
            raise Invalid("The request does not fit its schema.", errors=[fault])
        scores = await self._matrices.score(np.array([request.features], dtype=np.float64))
        return self._decisions(scores, [request.client_id], request_id())[0]

    async def predict_batch(self, requests: Sequence[PredictRequest]) -> Answer:
        """The decisions on many applications; see `answers.BatchAnswer`."""
        batch = Batch(len(requests), range(len(requests)), requests, {})
        return self._decided(batch, await self._margins(self._matrix(batch)), request_id())

    async def _predict(self, body: bytes) -> bytes:
        return to_json(await self.predict(decode(PredictRequest, body)))

    async def _predict_features(self, body: bytes) -> bytes:
        return to_json(await self.predict_features(decode(FeaturesRequest, body)))

    async def _predict_batch(self, body: bytes) -> bytes:
        """Milliseconds of work go beside the event loop, one batch after the other: single requests go on."""
        if self._ask is None:
            return await self._in_background(self._batch_answered, body, request_id())
        batch, matrix = await self._in_background(self._batch_read, body)
        return await self._in_background(self._batch_written, batch, await self._margins(matrix), request_id())

    async def _in_background(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._background, function, *arguments)

    def _batch_answered(self, body: bytes, request: str) -> bytes:
        batch, matrix = self._batch_read(body)
        return self._batch_written(batch, self.served.scorer.model.margins(matrix), request)

    def _batch_read(self, body: bytes) -> tuple[Batch, Matrix]:
        batch = decode_batch(body, limit=self._limits.batch_applications)
        return batch, self._matrix(batch)

    def _matrix(self, batch: Batch) -> Matrix:
        return self.served.scorer.transformer.transform(columns_of([request.application for request in batch.requests]))

    def _batch_written(self, batch: Batch, margins: Margins, request: str) -> bytes:
        return to_json(self._decided(batch, margins, request))

    def _decided(self, batch: Batch, margins: Margins, request: str) -> Answer:
        results: list[Any] = [None] * batch.size
        for position, errors in batch.rejected.items():
            results[position] = {"index": position, "status": "rejected", "errors": errors}
        client_ids = [request.client_id for request in batch.requests]
        scored = self._decisions(self.served.scorer.decide(margins), client_ids, request)
        for position, decision in zip(batch.positions, scored, strict=True):
            results[position] = decision
        return {"model_version": self.served.version, "results": results}

    def _decisions(self, scores: Scores, client_ids: Sequence[str | None], request: str) -> list[Answer]:
        return decisions(
            scores,
            client_ids,
            request_id=request,
            model_version=self.served.version,
            threshold=self.served.scorer.artefact.policy.cutoff,
        )
