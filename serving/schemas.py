"""Define the typed bodies of requests and answers, and decode the bodies of single requests."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, Field, StrictBool, ValidationError, create_model
from pydantic_core import from_json

from decision_log.format import Caller
from features.portfolio import Portfolio
from features.reasons import Reason
from features.request import (
    LONGEST_CLIENT_ID,
    ApplicationRecord,
    Applications,
    ClientId,
    HistoryReader,
    HistoryRequest,
    Record,
)
from features.schema import Schema
from features.store import HistorySource
from scoring.artefact import Artefact
from scoring.changes import MOST_ALTERNATIVES, Alternatives
from scoring.policy import DecisionKind, RiskLevel
from scoring.reasons import MOST_REASONS
from scoring.scorer import Scores
from serving.problems import LONGEST_NAME, MOST_FAULTS, Fault, Invalid, NotJson, faults

Number = Annotated[float, Field(strict=True)]
Body = TypeVar("Body", bound=BaseModel)

NOT_JSON = "The body is not JSON in UTF-8."
EMPTY = "The body is empty."
TOO_DEEP = "The body is nested too deeply."


class PredictRequest(Record):
    """One application to score."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    application: ApplicationRecord


class BatchItem(PredictRequest):
    """One application of a batch; the history of its client is looked up."""


class ExplainRequest(PredictRequest):
    """One application to score and to explain."""

    changes: StrictBool = Field(default=False, description="Whether to look for the changes that reach approval")


class FeaturesRequest(Record):
    """One row of the model matrix, for callers that compute features themselves."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    features: list[Number | None] = Field(description="In the order of /model/info; null is missing")


class BatchRequest(Record):
    """Applications to score together, in the order of their answers."""

    applications: list[PredictRequest] = Field(min_length=1)


_MOST_INDEX = (1 << 31) - 1


def _one_line(text: str) -> str:
    if not text.isprintable() or text.isspace():
        raise ValueError("must be words in one line")
    return text


class OverrideRequest(Record):
    """A person's decision in the place of the one that was recorded."""

    decision: Literal[DecisionKind.APPROVE, DecisionKind.DECLINE]
    reason: Annotated[str, AfterValidator(_one_line)] = Field(
        min_length=1, max_length=500, description="The person's own words, in one line"
    )
    index: Annotated[int, Field(strict=True)] = Field(
        default=0, ge=0, le=_MOST_INDEX, description="Position of the application in its batch"
    )


class Requests:
    """The bodies of requests of one portfolio: its own models of them, made from its declaration.

    Attributes
    ----------
    applications : reads applications
    histories : reads histories; None where the portfolio declares none
    predict, explain, features, batch : the models of the bodies of /predict, /explain, /predict/features and
        /predict/batch
    item : the model of an application of a batch, whose history is looked up
    """

    def __init__(self, portfolio: Portfolio) -> None:
        self.applications = Applications(portfolio)
        self.histories = None if portfolio.histories is None else HistoryReader(portfolio.histories)
        self.item = _made(BatchItem, application=(self.applications.model, ...))
        parts: dict[str, Any] = {"application": (self.applications.model, ...)}
        if self.histories is not None:
            said = "What is known of the client, table by table"
            parts["history"] = (self.histories.model | None, Field(default=None, description=said))
        self.predict = _made(PredictRequest, **parts)
        self.explain = _made(ExplainRequest, **parts)
        self.features = FeaturesRequest
        self.batch = _made(BatchRequest, applications=(list[self.item], Field(min_length=1)))  # type: ignore[name-defined]


def _made(base: type[Body], **fields: Any) -> type[Body]:
    made = create_model(base.__name__, __base__=base, **fields)
    made.__doc__ = base.__doc__
    return made


def decode(model: type[Body], body: bytes) -> Body:
    """Decode the body as a request; NotJson or Invalid if it is none. A leading byte order mark is skipped."""
    try:
        request = model.model_validate_json(body)
    except ValidationError as error:
        # Looked for only after a failure: few bodies have one, and every body would pay for the look.
        if body.startswith(BOM_UTF8):
            return decode(model, body.removeprefix(BOM_UTF8))
        raise refusal(error, body) from None
    # pydantic keeps the last of repeated names without a word. Each name has a colon, so as many colons as names read
    # mean that no name is repeated, where those in a level or a client id are not counted.
    objects = _objects(request)
    more = body.count(b":") - sum([len(one.model_fields_set) for one in objects])
    if more and not _are_in_texts(more, body, _texts(objects)):
        require_distinct_names(body)
    return request


def plain_request(body: bytes, stated: object, colons: int) -> tuple[str | None, dict[str, Any]] | None:
    """The client id and the columns that a body states, whose JSON was read already; None where more must be checked.

    `colons` is how many the body has.
    """
    if type(stated) is not dict or type(application := stated.get("application")) is not dict:
        return None
    client = stated.get("client_id")
    if len(stated) != 1 + ("client_id" in stated) or not (client is None or _is_plain(client)):
        return None
    names = len(stated) + len(application)
    if colons != names and not _are_in_texts(colons - names, body, [client, *application.values()]):
        return None
    return client, application


def _is_plain(client: object) -> bool:
    return type(client) is str and len(client) <= LONGEST_CLIENT_ID and client.isascii() and client.isalnum()


def history_of(request: BaseModel) -> HistoryRequest | None:
    """The history that a request states; None if it states none."""
    found: HistoryRequest | None = request.__dict__.get("history")
    return found


def _objects(request: BaseModel) -> list[BaseModel]:
    """The request, its application, its history and the rows of that."""
    stated, found = request.__dict__, [request]
    if "application" in stated:
        found.append(stated["application"])
    if (history := stated.get("history")) is not None:
        found.append(history)
        for table in history.__dict__.values():
            found += table
    return found


def _texts(objects: Sequence[BaseModel]) -> list[Any]:
    """All texts of some objects, and some of their other values."""
    found: list[Any] = []
    for one in objects:
        found += one.levels if isinstance(one, ApplicationRecord) else one.__dict__.values()
    return found


def _are_in_texts(colons: int, body: bytes, values: Sequence[Any]) -> bool:
    """Whether the texts among the values have so many colons; none is certain of a body with an escaped character."""
    return b"\\" not in body and colons == sum([value.count(":") for value in values if type(value) is str])


class _Object(dict[str, Any]):
    """An object of a body, which remembers the names that it states more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs) if len(self) < len(pairs) else {}
        self.repeated = [name for name, count in counts.items() if count > 1]


def require_distinct_names(body: bytes) -> None:
    """Invalid if an object of an accepted body states a name more than once."""
    # Of two values another program may have taken the other one.
    if repeated := _repeated_names(body):
        raise Invalid.because(repeated)


def _repeated_names(body: bytes) -> list[Fault]:
    """The names that a body states more than once, by their places, as many as a refusal lists."""
    # Numbers stay texts, since nothing is asked of them: Python reads no more digits than its environment says.
    whole = json.loads(body, object_pairs_hook=_Object, parse_int=str, parse_float=str)
    return list(islice(_repeated(whole, []), MOST_FAULTS))


def _repeated(value: Any, place: list[str | int]) -> Iterator[Fault]:
    parts: Iterable[tuple[str | int, Any]] = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, _Object):
        yield from (
            {"loc": [*place, name[:LONGEST_NAME]], "msg": "is stated more than once"} for name in value.repeated
        )
        parts = ((name[:LONGEST_NAME], inner) for name, inner in value.items())
    for part, inner in parts:
        yield from _repeated(inner, [*place, part])


def refusal(error: ValidationError, body: bytes) -> NotJson | Invalid:
    """Return the problem that stands for an invalid body."""
    if why := _why_not_json(error, body):
        return NotJson(why)
    # As in `decode`, since to look for repeated names takes several times as long as to refuse a body.
    repeated = _repeated_names(body) if body.count(b":") > _names_in(from_json(body)) else []
    return Invalid.because([*repeated, *faults(error)][:MOST_FAULTS])


def _names_in(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = len(value) if isinstance(value, dict) else 0
    return own + sum(_names_in(part) for part in parts if isinstance(part, dict | list))


def _why_not_json(error: ValidationError, body: bytes) -> str | None:
    """What keeps a body from being read as JSON; None for one that was read."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if error.error_count() > 1 or first["type"] != "json_invalid":
        return None
    if not body.strip():
        return EMPTY
    return TOO_DEEP if "recursion limit exceeded" in first["msg"] else NOT_JSON


MOST_BATCH_FAULTS = 1_000
"""Faults of a batch that are listed in full; beyond them only the first of each application is."""


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Applications of a batch: those that can be scored, and the faults of the others.

    Attributes
    ----------
    first : position of the first one in the batch
    size : how many
    positions : of those that can be scored, counted from the first
    client_ids : of all
    rejected : faults by position, counted from the first
    histories : where the roll-ups of those that can be scored came from; None where the model reads none
    """

    first: int
    size: int
    positions: Sequence[int]
    client_ids: Sequence[str | None]
    rejected: Mapping[int, list[Fault]]
    histories: Sequence[HistorySource] | None = None


@dataclass(frozen=True, slots=True)
class DecidedPart:
    """Applications of a batch with the callers and the scores of those that were scored.

    `models` has version and threshold of the model of each, where not all of them are the champion's.
    """

    rows: BatchRows
    callers: Sequence[Caller]
    scores: Scores
    models: Sequence[tuple[str, float]] | None = None


Answer = dict[str, Any]
"""An answer before it becomes JSON; a dictionary, since validating a model would double the cost of the answer."""


class ReasonText(BaseModel):
    """A reason of a decision, in the words that the portfolio declares."""

    code: str
    text: str


class Decision(BaseModel):
    """The decision on one application."""

    request_id: str
    client_id: str | None
    timestamp: str = Field(description="RFC 3339, UTC", examples=["2026-01-31T12:00:00.000Z"])
    model_version: str
    probability: float = Field(ge=0, le=1, description="Calibrated probability of default")
    prediction: Literal[0, 1] = Field(description="1 where the probability reaches the threshold")
    threshold: float = Field(ge=0, le=1, description="The cut-off of the decision policy")
    decision: DecisionKind
    risk_level: RiskLevel
    score: int = Field(description="Points, higher is better")
    missing: int = Field(ge=0, description="How many of the columns that the model reads are missing")
    unknown: int = Field(ge=0, description="How many columns have a level that the model does not know")
    unknown_columns: list[str] = Field(description="Their names; levels are compared letter for letter")
    withheld: list[str] = Field(
        description="Why an application that the PD would approve is referred: too little is known of it"
    )
    reasons: list[ReasonText] = Field(
        max_length=MOST_REASONS, description="Why it is declined, what raised the risk most first; empty otherwise"
    )
    history: HistorySource | None = Field(
        default=None, description="Where the roll-ups of the client came from; only where the model reads them"
    )


class ContributionText(BaseModel):
    """What the features behind one reason add to the margin; null stands for those of protected attributes."""

    code: str | None
    text: str | None
    contribution: float


class ChangedColumn(BaseModel):
    """A column's value as it was stated, and as it would be."""

    column: str
    before: float = Field(alias="from")
    after: float = Field(alias="to")


class AlternativeText(BaseModel):
    """An application that the model approves: every column in which it differs, and its PD."""

    columns: list[ChangedColumn]
    probability: float = Field(ge=0, le=1)


class ChangesText(BaseModel):
    """The smallest changes that reach approval, of the columns that the portfolio declares changeable."""

    alternatives: list[AlternativeText] = Field(max_length=MOST_ALTERNATIVES, description="The smallest first")
    complete: bool = Field(description="Whether the search was not cut short")
    says: str


class ExplainAnswer(Decision):
    """A decision with its reasons, whatever it is, and all that the margin is made of."""

    margin: float = Field(description="Raw log-odds of default: base and contributions add up to it")
    base: float = Field(description="Mean margin of the reference group")
    contributions: list[ContributionText] = Field(description="In log-odds, the largest first")
    explained_by: str = Field(description="The method, and the digest of its reference group")
    missing_columns: list[str] = Field(description="Names of the columns that the model reads and that are missing")
    refer_from: float = Field(ge=0, le=1, description="From this probability on a person decides")
    refer_to: float = Field(ge=0, le=1, description="From this probability on it is declined")
    changes: ChangesText | None = Field(description="Of a decline or a referral, where the request asks for them")


class Place(BaseModel):
    """A place where a request is invalid, and the reason."""

    loc: list[str | int]
    msg: str


class Rejection(BaseModel):
    """An application of a batch that was not scored."""

    index: int
    status: Literal["rejected"]
    errors: list[Place]


class BatchAnswer(BaseModel):
    """Decisions and rejections in the order of the request."""

    model_version: str
    results: list[Decision | Rejection]


class OverrideAnswer(BaseModel):
    """An override as it was recorded."""

    request_id: str
    index: int
    timestamp: str = Field(description="RFC 3339, UTC")
    actor: str | None = Field(description="Name of the key; null where the service needs no keys")
    was: DecisionKind = Field(description="The decision that stood before")
    decision: DecisionKind
    reason: str


class VariantInfo(BaseModel):
    """One of the models that the worker has loaded beside each other, or should have."""

    name: str
    model: str | None = Field(description="Null where it could not be loaded")
    version: str | None
    digest: str | None
    share: float = Field(ge=0, le=1, description="Of the clients; 0 in shadow, and for application_only")
    state: Literal["decides", "shadow", "halted", "missing", "unscorable"]


class ModelInfo(BaseModel):
    """The model that answers, the champion.

    In /predict/features the code of a category is the position of its level in `categories`; any other level has the
    number of levels as its code.
    """

    name: str
    portfolio: str = Field(description="Whose applications it scores")
    version: str
    digest: str
    revises: str | None = Field(description="The digest of the model whose policy this one revises; null if none")
    features: list[str]
    histories: list[str] = Field(description="The tables of histories that it reads")
    categories: dict[str, list[str]]
    required_columns: list[str]
    reasons: dict[str, dict[str, str]] = Field(description="The words of each code in each language")
    explained_by: str | None = Field(description="The method, and the digest of its reference group")
    policy: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    variants: list[VariantInfo]


class Health(BaseModel):
    """The service answers, and with which model."""

    status: Literal["ok"]
    model_version: str


class Counts(BaseModel):
    """Applications over the bins of the drift reference; a feature's last two bins are of unseen and missing values.

    Those whose history was `unavailable` count for the features that read no roll-up, and for nothing else.
    """

    rows: int
    unavailable: int
    features: dict[str, list[int]]
    probability: list[int]


class WindowCounts(Counts):
    """The counts of one window; `start` and `end` are seconds since 1970."""

    start: float
    end: float


class DriftCounts(Counts):
    """The counts of all workers since the service started, and those of the last complete window."""

    model: str
    version: str
    digest: str
    window: WindowCounts | None


class ProblemDocument(BaseModel):
    """An RFC 9457 problem: the reason why a request was not answered."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Place] | None = None


def now() -> datetime:
    """Return the time of a decision, in UTC."""
    return datetime.now(UTC)


def decisions(
    scores: Scores,
    callers: Sequence[Caller],
    *,
    model_version: str,
    threshold: float,
    told: Mapping[Reason, Answer],
) -> list[Answer]:
    """Return the scores as decisions ready for JSON, one for each caller, in order; `told` has each reason as JSON."""
    timestamp = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # to_json refuses numpy's integers, and tolist() converts a whole column at once.
    answers: list[Answer] = [
        {
            "request_id": caller.request_id,
            "client_id": caller.client_id,
            "timestamp": timestamp,
            "model_version": model_version,
            "probability": probability,
            "prediction": prediction,
            "threshold": threshold,
            "decision": decision,
            "risk_level": risk_level,
            "score": points,
            "missing": missing,
            "unknown": len(unknown),
            "unknown_columns": unknown,
            "withheld": withheld,
            "reasons": [told[reason] for reason in reasons],
        }
        for caller, probability, prediction, decision, risk_level, points, missing, unknown, withheld, reasons in zip(
            callers,
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
    ]
    if callers and callers[0].history is not None:
        for answer, caller in zip(answers, callers, strict=True):
            answer["history"] = caller.history
    return answers


def changes_text(found: Alternatives, schema: Schema) -> Answer:
    """Return alternatives ready for JSON; the values of whole columns are whole numbers."""
    return {
        "alternatives": [
            {
                "columns": [
                    {"column": one.column, "from": kind(one.before), "to": kind(one.after)}
                    for one in alternative.changes
                    for kind in (int if schema[one.column].whole else float,)
                ],
                "probability": alternative.probability,
            }
            for alternative in found.found
        ],
        "complete": found.complete,
        "says": found.says,
    }


def example_of(portfolio: Portfolio, artefact: Artefact | None = None) -> Answer:
    """An example body of /predict: the portfolio's own example, else the usual values of the model's training data."""
    return {"client_id": "example", "application": portfolio.declared.example or _usual(portfolio, artefact)}


def _usual(portfolio: Portfolio, artefact: Artefact | None) -> dict[str, Any]:
    from features.drawing import UNKNOWN_LEVEL, draw_legal, records_of  # most portfolios declare an example

    schema = portfolio.schema
    [drawn] = records_of(draw_legal(portfolio, 3, seed=0).take(slice(1, 2)))
    usual = drawn | (_seen(portfolio, artefact) if artefact else {})
    read = {one for name in artefact.features.names for one in portfolio.features[name].sources} if artefact else usual
    for order in schema.orders:
        smaller, larger = usual[order.smaller], usual[order.larger]
        if smaller is not None and larger is not None and smaller > larger:
            usual |= {name: drawn[name] for name in (order.smaller, order.larger)}
    # An example shows what the model reads, and no level that stands for no level, unless the column must be there.
    return {
        name: value
        for name, value in usual.items()
        if schema[name].required or (name in read and value not in (None, UNKNOWN_LEVEL))
    }


def _seen(portfolio: Portfolio, artefact: Artefact) -> dict[str, Any]:
    """The median or the commonest level of each column that is a feature."""
    seen: dict[str, Any] = {}
    stated = {column.name for column in portfolio.schema.stated}
    for name, bins in artefact.reference.features.items():
        levels = artefact.features.vocabularies.get(name, ())
        if bins.kind == "category" and levels:
            seen[name] = levels[int(np.argmax(bins.counts[: len(levels)]))]
        elif bins.kind == "numeric" and bins.edges and name in stated:
            middle = bins.edges[len(bins.edges) // 2]
            seen[name] = int(middle) if portfolio.schema[name].whole else middle
    return seen
