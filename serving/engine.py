"""The decision engine turns the bodies of scoring requests into the bodies of their answers.

Batches are decided on by a thread of their own, so that single requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from pydantic_core import to_json

from decision_log.format import CHAMPION, Caller
from features.store import HistorySource
from features.transformer import Columns
from monitoring.recorder import Recorder
from scoring.reasons import Explanation
from scoring.scorer import Scores, in_order
from scoring.store import StoredModel
from serving.app import ScoringRoute
from serving.authentication import count_applications
from serving.batch_body import decode_batch
from serving.direct import Decide, Replies
from serving.exchange import JSON, request_id
from serving.problems import Fault, Invalid
from serving.runner import Observer, Outcome
from serving.schemas import (
    Answer,
    BatchRows,
    DecidedPart,
    ExplainRequest,
    FeaturesRequest,
    PredictRequest,
    Requests,
    changes_text,
    decisions,
    decode,
    example_of,
    history_of,
)
from serving.settings import BoundaryPosition, ServingSettings, VariantSettings
from serving.split import ClientSplit, HaltFile
from serving.variants import BATCH, EXPLAIN, FEATURES, PREDICT, CallerRows, ExplainedScores, Margins, Matrix, Variant

if TYPE_CHECKING:
    from serving.columnar import TableReader
    from serving.histories import ClientHistories
    from serving.shadow import Shadow

Result = TypeVar("Result")

_PROTECTED = {"code": None, "text": None}


@dataclass(frozen=True, slots=True)
class _Group:
    """Applications of a batch on which one variant decides.

    Attributes
    ----------
    at : their places among those that can be scored; None for all of them
    matrix, margins : the variant's, where they are known already
    """

    variant: Variant
    at: NDArray[np.intp] | None
    columns: Columns
    matrix: Matrix | None = None
    margins: Margins | None = None


@dataclass(frozen=True, slots=True)
class _BatchPart:
    """Applications of a batch, and the variants that decide on those that can be scored."""

    rows: BatchRows
    groups: Sequence[_Group]


class DecisionEngine:
    """Decides on applications with the model of their variant, and records each decision before it is answered.

    Parameters
    ----------
    served : the champion's model
    requests : the bodies of the portfolio that the model scores
    observe : is told of every batch of single requests
    recorder : is told of every decision before it is answered; None where nothing is recorded
    ask : asks the model for margins where it runs as a service of its own; None where it is embedded
    shadows : challengers that are told of the champion's decisions
    challengers : those that decide for a share of the clients, with their settings; None for one that is not there
    application_only : decides where no history of the client is known; None where the others do
    halt : returns every client to the champion
    histories : finds those of clients; None where no model reads any
    """

    def __init__(
        self,
        served: StoredModel,
        requests: Requests,
        settings: ServingSettings,
        observe: Observer,
        recorder: Recorder | None = None,
        ask: Callable[[Matrix], Awaitable[Margins]] | None = None,
        *,
        shadows: Sequence[Shadow] = (),
        challengers: Sequence[tuple[VariantSettings, Variant | None]] = (),
        application_only: Variant | None = None,
        halt: HaltFile | None = None,
        histories: ClientHistories | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.champion = Variant(CHAMPION, served, settings, observe, recorder, ask=ask, shadows=shadows)
        self.shadows = shadows
        self.split = ClientSplit(
            self.champion, challengers, settings.split, halt, application_only=application_only, registry=registry
        )
        self._histories = histories
        self._requests = requests
        self._columns_of = requests.applications.columns_of
        self._limits = settings.limits
        self._outermost = settings.boundary is BoundaryPosition.OUTERMOST
        self._told = {reason: text for variant in self.split.variants for reason, text in variant.told.items()}
        # One thread: batches wait for each other, so single requests compete with one of them at most.
        self._background = ThreadPoolExecutor(1, thread_name_prefix="batch")

    @property
    def served(self) -> StoredModel:
        """The champion's model."""
        return self.champion.served

    @property
    def recorder(self) -> Recorder | None:
        """The champion's recorder."""
        return self.champion.recorder

    def close(self) -> None:
        """Let the shadows score what waits, and close all recorders; the first error comes when all are closed."""
        for shadow in self.shadows:  # all at once, so that no shadow waits for another
            shadow.stop()
        closing = [shadow.close for shadow in self.shadows]
        closing += [variant.close for variant in self.split.variants]
        closing += [self._histories.close] if self._histories else []
        errors = [error for error in map(_error_of, closing) if error is not None]
        if errors:
            raise errors[0]

    def warm_up(self) -> None:
        """Score and encode one example by each model that a request may meet first: it pays for no lazy set-up."""
        # Not through `decide`: the example is nobody's application and must not be recorded.
        artefact = self.served.scorer.artefact
        body = to_json(example_of(artefact.portfolio, artefact))
        columns = self._columns_of([decode(self._requests.predict, body).application])
        for variant in filter(None, (self.champion, self.split.application_only)):
            scores = variant.served.scorer.score(columns)
            to_json(variant.answers(scores, [Caller(request_id(), None)]))

    @property
    def routes(self) -> dict[str, ScoringRoute]:
        """Return the scoring routes by path."""
        limits = self._limits
        single = (limits.application_bytes, limits.in_flight)
        return {
            PREDICT: ScoringRoute(self._predict, *single, direct=self._direct),
            FEATURES: ScoringRoute(self._predict_features, *single),
            EXPLAIN: ScoringRoute(self._explain, *single, draw=self._draw),
            BATCH: ScoringRoute(
                self._predict_batch,
                limits.body_bytes,
                limits.batches_in_flight,
                tables=partial(partial, self._predict_table),
            ),
        }

    @property
    def _direct(self) -> Decide | None:
        """Begins to decide on the application in a body; None where there are challengers, or something to wait for."""
        split, histories = self.split, self._histories
        replies = self.champion.replies
        without = replies if split.application_only is None else split.application_only.replies
        waits = histories is not None and histories.waits
        if replies is None or without is None or split.challengers or waits or not self._outermost:
            return None

        def begin(body: bytes, request: str, outcome: Outcome[Replies]) -> None:
            read = decode(self._requests.predict, body)
            columns, client = self._columns_of([read.application]), read.client_id
            source = None if histories is None else histories.fill_now(client, history_of(read), columns)
            runner = replies if source is None or source.known else without
            runner.put(CallerRows(columns, [Caller(request, client, history=source)]), outcome)

        return begin

    async def predict(self, request: PredictRequest) -> Answer:
        """Return the decision on one application; see `schemas.Decision`."""
        given = await self._given(request)
        variant, scores = await self.split.decided(given, lambda one: one.applications)
        return self.split.told(variant, variant.answers, scores, given.callers)[0]

    async def _given(self, request: PredictRequest) -> CallerRows[Columns]:
        """The application of a request, with the roll-ups of its client."""
        columns, source = self._columns_of([request.application]), None
        if self._histories is not None:
            source = await self._histories.fill(request.client_id, history_of(request), columns)
        return CallerRows(columns, [Caller(request_id(), request.client_id, history=source)])

    async def explain(self, request: ExplainRequest) -> Answer:
        """Return the decision on one application and what it is made of; see `schemas.ExplainAnswer`.

        Changes are looked for on the background thread. Unexplained if the model gives no reasons.
        """
        _, answer, _ = await self._answered(request)
        return answer

    async def _answered(self, request: ExplainRequest) -> tuple[Variant, Answer, Explanation]:
        given = await self._given(request)
        columns, [caller] = given.rows, given.callers
        variant, explained = await self.split.decided(given, lambda one: one.explained)
        answer = self.split.told(variant, _explained_answer, variant, explained, caller)
        if request.changes:
            answer["changes"] = await self._in_background(self.split.told, variant, self._changes_of, variant, columns)
        return variant, answer, explained.explanations[0]

    def _changes_of(self, variant: Variant, columns: Columns) -> Answer:
        return changes_text(variant.search.of(columns), self._requests.applications.schema)

    async def predict_features(self, request: FeaturesRequest) -> Answer:
        """Return the decision on one row of the model matrix; Invalid for a wrong width or an unknown category code.

        The matrix is the champion's. A challenger of other features leaves the decision to the champion.
        """
        caller = Caller(request_id(), request.client_id)
        given = CallerRows(self._row(request.features), [caller])
        variant, scores = await self.split.decided(given, lambda one: one.matrices, of_matrix=True)
        return self.split.told(variant, variant.answers, scores, [caller])[0]

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
        clients = [request.client_id for request in requests]
        rows = BatchRows(0, len(requests), range(len(requests)), clients, {})
        columns = self._columns_of([request.application for request in requests])
        part = await self._in_background(self._part, rows, columns)
        [part] = await self._with_margins([part])
        # Not on the event loop, for a challenger that is late is waited for.
        answer = self._results([await self._in_background(self._decided, part, request_id())])
        await self._confirmed([part])
        return answer

    async def _predict(self, body: bytes) -> bytes:
        return to_json(await self.predict(decode(self._requests.predict, body)))

    async def _explain(self, body: bytes) -> bytes:
        return to_json(await self.explain(decode(self._requests.explain, body)))

    async def _draw(self, body: bytes) -> bytes:
        variant, answer, explanation = await self._answered(decode(self._requests.explain, body))
        # ASCII: JSON may hold characters that XML must not, such as U+FFFE.
        draw = partial(variant.waterfall.svg, metadata=json.dumps(answer))
        return self.split.told(variant, draw, explanation, answer["margin"], answer["decision"]).encode()

    async def _predict_features(self, body: bytes) -> bytes:
        return to_json(await self.predict_features(decode(self._requests.features, body)))

    async def _predict_batch(self, body: bytes) -> bytes:
        return await self._predict_table(JSON, JSON, body)

    async def _predict_table(self, given: bytes, wanted: bytes, body: bytes) -> bytes:
        """Answer a batch on the background thread, so that single requests go on meanwhile."""
        parts = await self._in_background(self._batch_read, given, body)
        # Only now is the size known. The context variable of the key belongs to this task, not to the thread.
        count_applications(sum(part.rows.size for part in parts))
        parts = await self._with_margins(parts)
        answer = await self._in_background(self._batch_answered, wanted, parts, request_id())
        await self._confirmed(parts)
        return answer

    async def _with_margins(self, parts: list[_BatchPart]) -> list[_BatchPart]:
        """The parts with the champion's margins, where the model is asked for them in a service of its own."""
        if self.champion.ask is None:
            return parts
        return [replace(part, groups=[await self._with_margin(group) for group in part.groups]) for part in parts]

    async def _with_margin(self, group: _Group) -> _Group:
        return group if group.matrix is None else replace(group, margins=await self.champion.margins(group.matrix))

    async def _confirmed(self, parts: Sequence[_BatchPart]) -> None:
        """Wait for every variant that may have decided; the champion may have taken the place of each."""
        for name in {CHAMPION, *(group.variant.name for part in parts for group in part.groups)}:
            await self.split.confirmed(self.split.named(name))

    async def _in_background(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._background, function, *arguments)

    def _batch_read(self, given: bytes, body: bytes) -> list[_BatchPart]:
        limits = self._limits
        if given != JSON:
            return [self._part(rows, columns) for rows, columns in self._tables.read(given, body)]
        read = decode_batch(body, self._requests, limit=limits.batch_applications, item_bytes=limits.application_bytes)
        return [self._part(*read)]

    def _part(self, rows: BatchRows, columns: Columns) -> _BatchPart:
        if self._histories is not None:
            rows, columns = self._histories.filled(rows, columns)
        if len(self.split.variants) == 1:
            return _BatchPart(rows, [_Group(self.champion, None, columns, self.champion.transform(columns))])
        chosen: dict[str, list[int]] = {}
        for at, (place, source) in enumerate(_sources(rows)):
            chosen.setdefault(self.split.of(rows.client_ids[place], history=source).name, []).append(at)
        groups = []
        for name, places in (chosen or {CHAMPION: []}).items():
            rows_of = np.array(places, dtype=np.intp)
            taken, variant = columns.take(rows_of), self.split.named(name)
            matrix = variant.transform(taken) if variant is self.champion else None
            groups.append(_Group(variant, rows_of, taken, matrix))
        return _BatchPart(rows, groups)

    @cached_property
    def _tables(self) -> TableReader:
        """The reader of tables, which comes with the first: pyarrow takes memory that few workers need."""
        from serving.columnar import TableReader

        return TableReader(self._requests.applications.portfolio, self._limits)

    def _batch_answered(self, wanted: bytes, parts: Sequence[_BatchPart], request: str) -> bytes:
        decided = (self._decided(part, request) for part in parts)
        if wanted == JSON:
            return to_json(self._results(decided))
        from serving.columnar import DecisionsWriter

        writer = DecisionsWriter(self.served.version, self.served.scorer.artefact.policy.cutoff, self._told)
        return writer.encoded(wanted, request, decided)

    def _decided(self, part: _BatchPart, request: str) -> DecidedPart:
        rows = part.rows
        callers = [
            Caller(request, rows.client_ids[place], rows.first + place, source) for place, source in _sources(rows)
        ]
        if len(self.split.variants) == 1:
            return DecidedPart(rows, callers, self._by(self.champion, part.groups[0], callers))
        scores, by = [], np.empty(len(callers), dtype=object)
        for group in part.groups:
            at = group.at if group.at is not None else np.arange(len(callers))
            variant, found = self._by_variant(group, [callers[place] for place in at.tolist()])
            scores.append((at, found))
            by[at] = variant
        models = [(one.served.version, one.served.scorer.artefact.policy.cutoff) for one in by.tolist()]
        return DecidedPart(rows, callers, in_order(scores), models)

    def _by_variant(self, group: _Group, callers: Sequence[Caller]) -> tuple[Variant, Scores]:
        """The decisions of the variant of a group; the champion's if it is a challenger that fails."""
        variant = group.variant
        if self.split.falls_back(variant):
            found = self.split.of_batch(variant, CallerRows(group.columns, callers))
            if found is not None:
                return variant, found
            variant = self.champion
        return variant, self._by(variant, group, callers)

    def _by(self, variant: Variant, group: _Group, callers: Sequence[Caller]) -> Scores:
        """The decisions of a variant that nobody stands in for, on this thread."""
        matrix = variant.transform(group.columns) if group.matrix is None else group.matrix
        margins = variant.served.scorer.model.margins(matrix) if group.margins is None else group.margins
        return variant.decide(BATCH, callers, matrix, margins, group.columns)

    def _results(self, parts: Iterable[DecidedPart]) -> Answer:
        """Return the answer to a batch; see `schemas.BatchAnswer`."""
        results: list[Answer] = []
        for part in parts:
            scored = iter(self._answers(part))
            rejected = part.rows.rejected
            for place in range(part.rows.size):
                if place in rejected:
                    faulty = {"index": part.rows.first + place, "status": "rejected", "errors": rejected[place]}
                results.append(faulty if place in rejected else next(scored))
        return {"model_version": self.served.version, "results": results}

    def _answers(self, part: DecidedPart) -> list[Answer]:
        if part.models is None:
            return self.champion.answers(part.scores, part.callers)
        answers = decisions(part.scores, part.callers, model_version="", threshold=0.0, told=self._told)
        for answer, (version, threshold) in zip(answers, part.models, strict=True):
            answer["model_version"], answer["threshold"] = version, threshold
        return answers


def _sources(rows: BatchRows) -> Iterator[tuple[int, HistorySource | None]]:
    """The position of each application that can be scored, and where its roll-ups come from."""
    sources: Sequence[HistorySource | None] = rows.histories or [None] * len(rows.positions)
    return zip(rows.positions, sources, strict=True)


def _explained_answer(variant: Variant, explained: ExplainedScores, caller: Caller) -> Answer:
    [explanation], [missing] = explained.explanations, explained.missing
    policy, told = variant.served.scorer.artefact.policy, variant.told
    return {
        **variant.answers(explained.scores, [caller])[0],
        "reasons": [told[reason] for reason in explanation.reasons],
        "margin": float(explained.scores.margin[0]),
        "base": explanation.base,
        "contributions": [
            {**(_PROTECTED if reason is None else told[reason]), "contribution": added}
            for reason, added in explanation.contributions
        ],
        "explained_by": explanation.version,
        "missing_columns": missing,
        "refer_from": policy.refer_from,
        "refer_to": policy.refer_to,
        "changes": None,
    }


def _error_of(close: Callable[[], None]) -> Exception | None:
    try:
        close()
    except Exception as error:  # noqa: BLE001 - the others must be closed too
        return error
    return None


def _unknown_code(position: int, largest: int, names: Sequence[str]) -> Fault:
    message = f"{names[position]} is a category: null, or a whole number from 0 to {largest}"
    return {"loc": ["features", position], "msg": message}
