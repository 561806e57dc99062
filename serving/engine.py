"""The decision engine: it turns the bodies of scoring requests into the bodies of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from decision_log.errors import NotRecordedError
from decision_log.format import Caller
from features.request import columns_of
from features.transformer import Columns, concatenate
from monitoring.recorder import Recorder
from scoring.scorer import Scores
from scoring.store import StoredModel
from serving.app import ScoringRoute
from serving.authentication import count_applications
from serving.batches import ParsedBatch, decode_batch
from serving.exchange import request_id
from serving.problems import Fault, Invalid, Unrecorded
from serving.runner import EmbeddedRunner, Observer, RemoteRunner, Runner
from serving.schemas import EXAMPLE, Answer, FeaturesRequest, PredictRequest, decisions, decode
from serving.settings import ServingSettings

Result = TypeVar("Result")
Rows = TypeVar("Rows")
Matrix = NDArray[np.float64]
"""A model matrix, shape (n, features)."""
Margins = NDArray[np.float64]
"""Raw log-odds of default, shape (n,)."""
_PREDICT, _FEATURES, _BATCH = "/predict", "/predict/features", "/predict/batch"


@dataclass(frozen=True, slots=True)
class _CallerRows(Generic[Rows]):
    """Rows to score, and the caller of each row."""

    rows: Rows
    callers: Sequence[Caller]


class DecisionEngine:
    """Decides on applications with one model, and records each decision before it is answered.

    Parameters
    ----------
    served : the model
    observe : is told of every batch of single requests
    recorder : is told of every decision before it is answered; None where nothing is recorded
    ask : asks the model for margins where it runs as a service of its own; None where it is embedded
    """

    def __init__(
        self,
        served: StoredModel,
        settings: ServingSettings,
        observe: Observer,
        recorder: Recorder | None = None,
        ask: Callable[[Matrix], Awaitable[Margins]] | None = None,
    ) -> None:
        self.served = served
        self._limits = settings.limits
        # One thread: batches wait for each other, so single requests compete with one of them at most.
        self._background = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self.recorder = recorder
        self._ask = ask
        self._applications: Runner[_CallerRows[Columns]]
        self._matrices: Runner[_CallerRows[Matrix]]
        if ask is None:
            self._applications = EmbeddedRunner(self._score, _join_rows(concatenate), settings.runner, observe)
            self._matrices = EmbeddedRunner(self._score_matrix, _join_rows(np.concatenate), settings.runner, observe)
        else:
            self._applications = RemoteRunner(self._ask_of, _join_rows(concatenate), settings.runner, observe)
            self._matrices = RemoteRunner(self._ask_of_matrix, _join_rows(np.concatenate), settings.runner, observe)

    def _score(self, given: _CallerRows[Columns]) -> Scores:
        matrix = self.served.scorer.transformer.transform(given.rows)
        return self._decide(_PREDICT, given.callers, matrix, self.served.scorer.model.margins(matrix))

    def _score_matrix(self, given: _CallerRows[Matrix]) -> Scores:
        return self._decide(_FEATURES, given.callers, given.rows, self.served.scorer.model.margins(given.rows))

    async def _ask_of(self, given: _CallerRows[Columns]) -> Scores:
        matrix = self.served.scorer.transformer.transform(given.rows)
        return self._decide(_PREDICT, given.callers, matrix, await self._margins(matrix))

    async def _ask_of_matrix(self, given: _CallerRows[Matrix]) -> Scores:
        return self._decide(_FEATURES, given.callers, given.rows, await self._margins(given.rows))

    def _decide(self, route: str, callers: Sequence[Caller], matrix: Matrix, margins: Margins) -> Scores:
        """Decide and record; Unrecorded if the record cannot be written."""
        scores = self.served.scorer.decide(matrix, margins)
        if self.recorder is not None:
            # Recorded before anybody hears of it: a decision that was answered must never be missing from the log.
            try:
                self.recorder.record(route, callers, matrix, scores)
            except NotRecordedError:
                raise Unrecorded.after(self._limits.retry_after_seconds) from None
        return scores

    async def _margins(self, matrix: Matrix) -> Margins:
        return await self._ask(matrix) if self._ask else self.served.scorer.model.margins(matrix)

    def warm_up(self) -> None:
        """Score and encode one example, so that the first request pays for no lazy set-up."""
        # Not through `_decide`: the example is nobody's application and must not be recorded.
        scores = self.served.scorer.score(columns_of([PredictRequest.model_validate(EXAMPLE).application]))
        to_json(self._decisions(scores, [Caller(request_id(), None)]))

    @property
    def routes(self) -> dict[str, ScoringRoute]:
        """Return the scoring routes by path."""
        limits = self._limits
        single = (limits.application_bytes, limits.in_flight)
        return {
            _PREDICT: ScoringRoute(self._predict, *single),
            _FEATURES: ScoringRoute(self._predict_features, *single),
            _BATCH: ScoringRoute(self._predict_batch, limits.body_bytes, limits.batches_in_flight),
        }

    async def predict(self, request: PredictRequest) -> Answer:
        """Return the decision on one application; see `schemas.Decision`."""
        caller = Caller(request_id(), request.client_id)
        scores = await self._applications.score(_CallerRows(columns_of([request.application]), [caller]))
        return self._decisions(scores, [caller])[0]

    async def predict_features(self, request: FeaturesRequest) -> Answer:
        """Return the decision on one row of the model matrix; Invalid for a wrong width or an unknown category code."""
        caller = Caller(request_id(), request.client_id)
        scores = await self._matrices.score(_CallerRows(self._row(request.features), [caller]))
        return self._decisions(scores, [caller])[0]

    def _row(self, features: Sequence[float | None]) -> Matrix:
        scorer = self.served.scorer
        expected = len(scorer.features)
        if len(features) != expected:
            fault = {"loc": ["features"], "msg": f"must hold {expected} numbers, as /model/info lists them"}
            raise Invalid.because([fault])
        row = np.array([features], dtype=np.float64)
        # LightGBM would score an unknown category code without a word, as one that no split names.
        if wrong := scorer.transformer.unknown_codes(row):
            raise Invalid.because([_unknown_code(position, most, scorer.features) for position, most in wrong.items()])
        return row

    async def predict_batch(self, requests: Sequence[PredictRequest]) -> Answer:
        """Return the decisions on many applications; see `schemas.BatchAnswer`."""
        batch = ParsedBatch(len(requests), range(len(requests)), requests, {})
        matrix = self._matrix(batch)
        return self._decided(batch, matrix, await self._margins(matrix), request_id())

    async def _predict(self, body: bytes) -> bytes:
        return to_json(await self.predict(decode(PredictRequest, body)))

    async def _predict_features(self, body: bytes) -> bytes:
        return to_json(await self.predict_features(decode(FeaturesRequest, body)))

    async def _predict_batch(self, body: bytes) -> bytes:
        """Answer a batch on the background thread, so that single requests go on meanwhile."""
        batch, matrix = await self._in_background(self._batch_read, body)
        # Only now is the size known. The context variable of the key belongs to this task, not to the thread.
        count_applications(batch.size)
        if self._ask is None:
            return await self._in_background(self._batch_answered, batch, matrix, request_id())
        margins = await self._margins(matrix)
        return await self._in_background(self._batch_written, batch, matrix, margins, request_id())

    async def _in_background(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._background, function, *arguments)

    def _batch_answered(self, batch: ParsedBatch, matrix: Matrix, request: str) -> bytes:
        return self._batch_written(batch, matrix, self.served.scorer.model.margins(matrix), request)

    def _batch_read(self, body: bytes) -> tuple[ParsedBatch, Matrix]:
        limits = self._limits
        batch = decode_batch(body, limit=limits.batch_applications, item_bytes=limits.application_bytes)
        return batch, self._matrix(batch)

    def _matrix(self, batch: ParsedBatch) -> Matrix:
        return self.served.scorer.transformer.transform(columns_of([request.application for request in batch.requests]))

    def _batch_written(self, batch: ParsedBatch, matrix: Matrix, margins: Margins, request: str) -> bytes:
        return to_json(self._decided(batch, matrix, margins, request))

    def _decided(self, batch: ParsedBatch, matrix: Matrix, margins: Margins, request: str) -> Answer:
        results: list[Any] = [None] * batch.size
        for position, errors in batch.rejected.items():
            results[position] = {"index": position, "status": "rejected", "errors": errors}
        callers = [
            Caller(request, one.client_id, position)
            for position, one in zip(batch.positions, batch.requests, strict=True)
        ]
        scored = self._decisions(self._decide(_BATCH, callers, matrix, margins), callers)
        for position, decision in zip(batch.positions, scored, strict=True):
            results[position] = decision
        return {"model_version": self.served.version, "results": results}

    def _decisions(self, scores: Scores, callers: Sequence[Caller]) -> list[Answer]:
        return decisions(
            scores,
            callers,
            model_version=self.served.version,
            threshold=self.served.scorer.artefact.policy.cutoff,
        )


def _unknown_code(position: int, largest: int, names: Sequence[str]) -> Fault:
    message = f"{names[position]} is a category: null, or a whole number from 0 to {largest}"
    return {"loc": ["features", position], "msg": message}


def _join_rows(join: Callable[[Sequence[Rows]], Rows]) -> Callable[[Sequence[_CallerRows[Rows]]], _CallerRows[Rows]]:
    """Return a function that joins the rows and the callers of several requests into one."""
    return lambda batch: _CallerRows(
        join([one.rows for one in batch]), [caller for one in batch for caller in one.callers]
    )
