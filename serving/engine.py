"""The decision engine: from the bodies of scoring requests to those of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
Margins = Callable[[NDArray[np.float64]], Awaitable[NDArray[np.float64]]]
"""From a model matrix of shape (n, features) to margins of shape (n,), in another process."""


class DecisionEngine:
    """Answers scoring requests with the decisions of one model.

    Parameters
    ----------
    served : the model
    observe : is told of every batch of single requests
    margins : asks the model where it runs as a service of its own; None where it is embedded
    """

    def __init__(
        self, served: StoredModel, settings: ServingSettings, observe: Observer, margins: Margins | None = None
    ) -> None:
        self.served = served
        self._limits = settings.limits
        self._background = ThreadPoolExecutor(1, thread_name_prefix="batch")
        scorer, runner = served.scorer, settings.runner
        self._applications: Runner[Columns]
        self._matrices: Runner[NDArray[np.float64]]
        if margins is None:
            self._margins: Margins = partial(self._in_background, scorer.model.margins)
            self._applications = EmbeddedRunner(scorer.score, concatenate, runner, observe)
            self._matrices = EmbeddedRunner(scorer.score_matrix, np.concatenate, runner, observe)
        else:
            self._margins = margins
            self._applications = RemoteRunner(self._score, concatenate, runner, observe)
            self._matrices = RemoteRunner(self._score_matrix, np.concatenate, runner, observe)

    async def _score(self, columns: Columns) -> Scores:
        return await self._score_matrix(self.served.scorer.transformer.transform(columns))

    async def _score_matrix(self, matrix: NDArray[np.float64]) -> Scores:
        return self.served.scorer.decide(await self._margins(matrix))

    def warm_up(self) -> None:
        """Do once what the first request would do for the first time."""
        request = PredictRequest.model_validate(EXAMPLE)
        to_json(self._decisions(self.served.scorer.score(columns_of([request.application])), [request.client_id]))

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
        return self._decisions(scores, [request.client_id])[0]

    async def predict_features(self, request: FeaturesRequest) -> Answer:
        """The decision on one row of the model matrix; Invalid if it has another width."""
        expected = len(self.served.scorer.features)
        if len(request.features) != expected:
            fault = {"loc": ["features"], "msg": f"must hold {expected} numbers, as /model/info lists them"}
            raise Invalid("The request does not fit its schema.", errors=[fault])
        scores = await self._matrices.score(np.array([request.features], dtype=np.float64))
        return self._decisions(scores, [request.client_id])[0]

    async def predict_batch(self, requests: Sequence[PredictRequest]) -> Answer:
        """The decisions on many applications; see `answers.BatchAnswer`."""
        return await self._decided(Batch(len(requests), range(len(requests)), requests, {}))

    async def _predict(self, body: bytes) -> bytes:
        return to_json(await self.predict(decode(PredictRequest, body)))

    async def _predict_features(self, body: bytes) -> bytes:
        return to_json(await self.predict_features(decode(FeaturesRequest, body)))

    async def _predict_batch(self, body: bytes) -> bytes:
        decode = partial(decode_batch, body, limit=self._limits.batch_applications)
        return await self._in_background(to_json, await self._decided(await self._in_background(decode)))

    async def _in_background(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Milliseconds of work go beside the event loop, one piece after the other: single requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self._background, function, *arguments)

    async def _decided(self, batch: Batch) -> Answer:
        results: list[Any] = [None] * batch.size
        for position, errors in batch.rejected.items():
            results[position] = {"index": position, "status": "rejected", "errors": errors}
        if batch.requests:
            matrix = await self._in_background(self._matrix, batch.requests)
            scores = self.served.scorer.decide(await self._margins(matrix))
            client_ids = [request.client_id for request in batch.requests]
            for position, decision in zip(batch.positions, self._decisions(scores, client_ids), strict=True):
                results[position] = decision
        return {"model_version": self.served.version, "results": results}

    def _matrix(self, requests: Sequence[PredictRequest]) -> NDArray[np.float64]:
        return self.served.scorer.transformer.transform(columns_of([request.application for request in requests]))

    def _decisions(self, scores: Scores, client_ids: Sequence[str | None]) -> list[Answer]:
        return decisions(
            scores,
            client_ids,
            request_id=request_id(),
            model_version=self.served.version,
            threshold=self.served.scorer.artefact.policy.cutoff,
        )
