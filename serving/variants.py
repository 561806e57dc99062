"""The variants of a service: the models that it has loaded, and which of them decides on an application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from pydantic_core import to_json

from decision_log.errors import NotRecordedError
from decision_log.format import Caller
from features.errors import ColumnsError, FeatureError
from features.reasons import Reason
from features.transformer import Columns, concatenate
from monitoring.recorder import Recorder
from scoring.changes import ChangeSearch, SearchBounds
from scoring.errors import ScoringError
from scoring.reasons import Explanation
from scoring.scorer import Scores
from scoring.store import StoredModel, load_stored, require_application_only, require_columns, require_reasons
from scoring.waterfall import Waterfall
from serving.direct import Replies
from serving.exchange import FAILED
from serving.problems import Failed, Unexplained, Unrecorded
from serving.runner import EmbeddedRunner, Observer, RemoteRunner, Results, Runner
from serving.schemas import Answer, decisions
from serving.settings import RunnerSettings, ServingSettings, VariantSettings

if TYPE_CHECKING:
    from serving.shadow import Shadow

_LOGGER = logging.getLogger("bentoml.credit_scoring")

Result = TypeVar("Result")
Rows = TypeVar("Rows")
Matrix = NDArray[np.float64]
"""A model matrix, shape (n, features)."""
Margins = NDArray[np.float64]
"""Raw log-odds of default, shape (n,)."""
PREDICT, FEATURES, BATCH, EXPLAIN = "/predict", "/predict/features", "/predict/batch", "/explain"


class CallerRows(NamedTuple, Generic[Rows]):
    """Rows to score, and the caller of each row.

    Attributes
    ----------
    claims : locks of which whoever records the decision takes each first: a challenger that is late leaves it to the
        champion, and nobody decides twice; none for the champion
    """

    rows: Rows
    callers: Sequence[Caller]
    claims: Sequence[Lock] = ()


@dataclass(frozen=True, slots=True)
class ExplainedScores:
    """The scores of rows, the explanation of each, and the columns that it lacks."""

    scores: Scores
    explanations: Sequence[Explanation]
    missing: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: slice) -> ExplainedScores:
        """Those of the chosen rows."""
        return ExplainedScores(self.scores.take(rows), self.explanations[rows], self.missing[rows])


class Variant:
    """One of the models that a service has loaded: it decides on rows, and records each decision before its answer.

    Parameters
    ----------
    observe : is told of every batch of single requests
    recorder : is told of every decision before it is answered; None where nothing is recorded
    ask : asks the model for margins where it runs as a service of its own; None where it is embedded
    shadows : are told of every decision, and decide on the same applications later
    apart : whether it decides on threads of its own, so that one that is slow holds nobody else up

    Attributes
    ----------
    applications, explained, matrices : the runners of single requests, to be decided, to be explained, and of rows of
        the model matrix
    replies : the runner of single requests that are answered directly; None where there is something to wait for
    told : each reason as JSON
    """

    def __init__(
        self,
        name: str,
        served: StoredModel,
        settings: ServingSettings,
        observe: Observer,
        recorder: Recorder | None = None,
        *,
        ask: Callable[[Matrix], Awaitable[Margins]] | None = None,
        shadows: Sequence[Shadow] = (),
        apart: bool = False,
    ) -> None:
        self.name = name
        self.served = served
        self.recorder = recorder
        self.ask = ask
        self.transform = served.scorer.transformer.transform
        self._shadows = shadows
        self._retry = settings.limits.retry_after_seconds
        self._with_reasons = settings.reasons.in_declines
        self.told = told(served, settings.reasons.language)
        artefact = served.scorer.artefact
        self.waterfall = Waterfall(artefact.policy, artefact.calibration, settings.reasons.language)
        bounds = SearchBounds(settings.changes.most_evaluations, settings.changes.milliseconds / 1000)
        self.search = ChangeSearch(served.scorer, bounds)
        # LightGBM's own contributions take milliseconds: the event loop must not wait for them.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="reasons") if _reasons_are_slow(served) else None
        if apart:  # two, since single requests need not wait for a batch
            self._aside = ThreadPoolExecutor(2, thread_name_prefix=name)
        make = partial(self._runner, settings=settings.runner, observe=observe)
        self.applications = make(self._score, self._ask_of, concatenate)
        self.explained = make(self._explain_rows, self._ask_and_explain, concatenate)
        self.matrices = make(self._score_matrix, self._ask_of_matrix, np.concatenate)
        waits = ask is not None or self._aside is not None or (recorder is not None and recorder.confirms)
        # What was answered directly, and is not yet told to the shadows.
        self._answered: list[tuple[Sequence[Caller], Columns, Matrix, Scores]] = []
        afterwards = self._tell_shadows if shadows else None
        self.replies = (
            None
            if waits
            else EmbeddedRunner(self._reply, _join_rows(concatenate), settings.runner, observe, afterwards)
        )

    def _runner(
        self,
        score: Callable[[CallerRows[Rows]], Results],
        ask: Callable[[CallerRows[Rows]], Awaitable[Results]],
        join: Callable[[Sequence[Rows]], Rows],
        *,
        settings: RunnerSettings,
        observe: Observer,
    ) -> Runner[CallerRows[Rows], Results]:
        """Return the runner of a route: by a service of its own, on a thread, or on the event loop."""
        if self.ask is not None:
            return RemoteRunner(ask, _join_rows(join), settings, observe)
        if self._aside is not None:
            return RemoteRunner(partial(self._on_aside, score), _join_rows(join), settings, observe)
        return EmbeddedRunner(score, _join_rows(join), settings, observe)

    async def _on_aside(self, function: Callable[..., Result], given: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._aside, function, given)

    def _score(self, given: CallerRows[Columns]) -> Scores:
        matrix = self.transform(given.rows)
        margins = self.served.scorer.model.margins(matrix)
        return self.decide(PREDICT, given.callers, matrix, margins, given.rows, claims=given.claims)

    def begin_batch(self, given: CallerRows[Columns]) -> Future[Scores]:
        """Decide on applications of a batch, on a thread of the variant's own."""
        if self._aside is None:
            raise ValueError(f"the variant {self.name} has no threads")
        return self._aside.submit(self._score_batch, given)

    def _score_batch(self, given: CallerRows[Columns]) -> Scores:
        matrix = self.transform(given.rows)
        margins = self.served.scorer.model.margins(matrix)
        return self.decide(BATCH, given.callers, matrix, margins, claims=given.claims)

    def _reply(self, given: CallerRows[Columns]) -> Replies:
        matrix = self.transform(given.rows)
        margins = self.served.scorer.model.margins(matrix)
        scores, answered = self._recorded(PREDICT, given.callers, matrix, margins, claims=given.claims)
        if self._shadows:
            self._answered.append((given.callers, given.rows, matrix, scores))
        try:
            return Replies(map(to_json, self.answers(answered, given.callers)))
        except Exception as error:  # it is recorded: it must not be decided and recorded once more
            raise Failed(FAILED) from error

    def _tell_shadows(self) -> None:
        """Tell them what was answered directly: nobody waits for it any more."""
        for callers, columns, matrix, scores in self._answered:
            for shadow in self._shadows:
                shadow.offer(PREDICT, callers, columns, matrix, scores)
        self._answered.clear()

    def _score_matrix(self, given: CallerRows[Matrix]) -> Scores:
        margins = self.served.scorer.model.margins(given.rows)
        return self.decide(FEATURES, given.callers, given.rows, margins, claims=given.claims)

    async def _ask_of(self, given: CallerRows[Columns]) -> Scores:
        matrix = self.transform(given.rows)
        return self.decide(PREDICT, given.callers, matrix, await self.margins(matrix), given.rows)

    async def _ask_of_matrix(self, given: CallerRows[Matrix]) -> Scores:
        return self.decide(FEATURES, given.callers, given.rows, await self.margins(given.rows))

    def _explain_rows(self, given: CallerRows[Columns]) -> ExplainedScores:
        matrix = self.transform(given.rows)
        return self._explanations(given, matrix, self.served.scorer.model.margins(matrix))

    async def _ask_and_explain(self, given: CallerRows[Columns]) -> ExplainedScores:
        matrix = self.transform(given.rows)
        return self._explanations(given, matrix, await self.margins(matrix))

    def _explanations(self, given: CallerRows[Columns], matrix: Matrix, margins: Margins) -> ExplainedScores:
        explainer = self.served.scorer.explainer
        if explainer is None:
            raise Unexplained("The model gives no reasons: its portfolio declared none when it was trained.")
        explanations = explainer.explain(matrix)
        # Records hold no reasons where their header says so, whatever the route; /explain tells them all the same.
        reasons = [one.reasons for one in explanations] if self._with_reasons else None
        # All that may fail comes before the record, for another variant decides where this one fails.
        missing = self.served.scorer.missing_columns(matrix)
        scores = self.decide(EXPLAIN, given.callers, matrix, margins, reasons=reasons, claims=given.claims)
        return ExplainedScores(scores, explanations, missing)

    def decide(
        self,
        route: str,
        callers: Sequence[Caller],
        matrix: Matrix,
        margins: Margins,
        columns: Columns | None = None,
        *,
        reasons: Sequence[tuple[Reason, ...]] | None = None,
        claims: Sequence[Lock] = (),
    ) -> Scores:
        """Decide and record, with the reasons of each row if they are known; Unrecorded if there can be no record.

        `columns` are those that the matrix was made of, for shadows that make their own of them. TimeoutError if one of
        the `claims` is taken.
        """
        scores, answered = self._recorded(route, callers, matrix, margins, reasons=reasons, claims=claims)
        if self._shadows and route != EXPLAIN:
            for shadow in self._shadows:
                shadow.offer(route, callers, columns, matrix, scores)
        return answered

    def _recorded(
        self,
        route: str,
        callers: Sequence[Caller],
        matrix: Matrix,
        margins: Margins,
        *,
        reasons: Sequence[tuple[Reason, ...]] | None = None,
        claims: Sequence[Lock] = (),
    ) -> tuple[Scores, Scores]:
        """What the policy decides, which shadows are told, and what is answered: chance may have made other of it."""
        scores = self.served.scorer.decide(matrix, margins, with_reasons=self._with_reasons and reasons is None)
        if reasons is not None:
            scores = scores.with_reasons(reasons)
        if claims:
            _take(claims)
        if self.recorder is None:
            return scores, scores
        # Recorded before anybody hears of it: a decision that was answered must never be missing from the log.
        try:
            return scores, self.recorder.record(route, callers, matrix, scores)
        except NotRecordedError:
            raise Unrecorded.after(self._retry) from None

    def close(self) -> None:
        """Let its threads end, without waiting for one that is stuck, and close the recorder."""
        if self._aside is not None:
            self._aside.shutdown(wait=False, cancel_futures=True)
        if self.recorder is not None:
            self.recorder.close()

    async def confirmed(self) -> None:
        """Wait until what was recorded survives a power cut, if the settings ask for it; Unrecorded if it does not."""
        waiting = None if self.recorder is None else self.recorder.confirmed()
        if waiting is not None:
            try:
                await asyncio.wrap_future(waiting)
            except NotRecordedError:
                raise Unrecorded.after(self._retry) from None

    async def margins(self, matrix: Matrix) -> Margins:
        """The margins of rows of the model matrix."""
        return await self.ask(matrix) if self.ask else self.served.scorer.model.margins(matrix)

    def answers(self, scores: Scores, callers: Sequence[Caller]) -> list[Answer]:
        """The decisions, ready for JSON."""
        return decisions(
            scores,
            callers,
            model_version=self.served.version,
            threshold=self.served.scorer.artefact.policy.cutoff,
            told=self.told,
        )


def _reasons_are_slow(served: StoredModel) -> bool:
    """Whether the model gives reasons, and its trees are too large for tables."""
    return served.scorer.explainer is not None and served.scorer.model.tables is None


def told(served: StoredModel, language: str) -> dict[Reason, Answer]:
    """Each reason of a model as JSON; SchemaError if one has no words in the language."""
    reasons = served.scorer.artefact.portfolio.reasons
    return {reason: {"code": reason.code, "text": reason.text(language)} for reason in reasons or ()}


def _join_rows(join: Callable[[Sequence[Rows]], Rows]) -> Callable[[Sequence[CallerRows[Rows]]], CallerRows[Rows]]:
    """Return a function that joins the rows, callers and claims of several requests into one."""

    def whole(batch: Sequence[CallerRows[Rows]]) -> CallerRows[Rows]:
        if len(batch) == 1:
            return batch[0]
        return CallerRows(
            join([one.rows for one in batch]),
            [caller for one in batch for caller in one.callers],
            [claim for one in batch for claim in one.claims],
        )

    return whole


def _take(claims: Sequence[Lock]) -> None:
    """Take all claims, or none and raise TimeoutError if one is taken."""
    for place, claim in enumerate(claims):
        if not claim.acquire(blocking=False):
            for taken in claims[:place]:
                taken.release()
            raise TimeoutError


def same_matrix(one: StoredModel, other: StoredModel) -> bool:
    """Whether two models read the same model matrix: the same features, coded and clipped alike."""
    return one.scorer.artefact.features == other.scorer.artefact.features


def load_application_only(settings: ServingSettings, champion: StoredModel) -> StoredModel | None:
    """The model that decides where no history is known; None where the settings name none or the champion reads none.

    ScoringError if it cannot be loaded, and FeatureError if it cannot decide in the champion's place.
    """
    tag = settings.histories.model
    if tag is None or not champion.scorer.artefact.features.rolled_up:
        return None
    served = load_stored(tag)
    try:
        require_application_only(served, champion)
        told(served, settings.reasons.language)
    except FeatureError as error:
        raise ColumnsError(f"histories.model: {tag} cannot decide without a history: {error}") from None
    return served


class VariantState(StrEnum):
    """What a variant does in this worker."""

    DECIDES = "decides"
    SHADOW = "shadow"
    HALTED = "halted"
    """The champion decides in its place."""
    MISSING = "missing"
    """It is not in the model store, or is refused there; the service's log says why."""
    UNSCORABLE = "unscorable"
    """It reads columns that the champion's portfolio does not declare, or gives no reasons where the champion does."""


@dataclass(frozen=True, slots=True)
class Challenger:
    """A challenger as it was loaded; `served` is None where it is missing or cannot score what the champion does."""

    settings: VariantSettings
    state: VariantState
    served: StoredModel | None = None

    @property
    def model(self) -> StoredModel:
        """The model of a challenger that can be used."""
        if self.served is None:
            raise ValueError(f"the challenger {self.settings.name} is {self.state}")
        return self.served


def load_challengers(settings: ServingSettings, champion: StoredModel) -> list[Challenger]:
    """The challengers that the settings name. One that cannot be used is logged in one line, and stops nothing."""
    return [_challenger(one, champion, settings.reasons.language) for one in settings.variants]


def _challenger(one: VariantSettings, champion: StoredModel, language: str) -> Challenger:
    try:
        served = load_stored(one.model)
    except (ScoringError, FeatureError, OSError) as error:
        _LOGGER.error("the challenger %s is missing: %s", one.name, error)  # noqa: TRY400 - one line, no traceback
        return Challenger(one, VariantState.MISSING)
    try:
        require_columns(served, champion)
        told(served, language)
        require_reasons(served, champion)
    except FeatureError as error:
        _LOGGER.error("the challenger %s cannot score: %s", one.name, error)  # noqa: TRY400 - one line, no traceback
        return Challenger(one, VariantState.UNSCORABLE)
    return Challenger(one, VariantState.DECIDES if one.share else VariantState.SHADOW, served)


def publish_states(challengers: Sequence[Challenger], *, registry: CollectorRegistry = REGISTRY) -> None:
    """Set the gauges of how the challengers were loaded."""
    if not challengers:
        return
    gauge = Gauge(
        "credit_scoring_variant_state", "1 for the state that a challenger has had since the worker started",
        ("variant", "state"), registry=registry, multiprocess_mode="livemax",
    )  # fmt: skip
    for one in challengers:
        for state in (VariantState.DECIDES, VariantState.SHADOW, VariantState.MISSING, VariantState.UNSCORABLE):
            gauge.labels(one.settings.name, state).set(one.state is state)
