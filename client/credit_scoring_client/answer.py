"""Make requests, turn replies into answers or errors, and read answers field by field."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

import httpx

from credit_scoring_client.errors import (
    ClientError,
    ConnectionFailed,
    Problem,
    TimedOut,
    UnexpectedAnswer,
    Violation,
    problem_of,
    refusal,
    violations_in,
)

SVG = "image/svg+xml"

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Request:
    """A request; every attempt carries the same `request_id` and `idempotency_key`.

    Neither repr nor any error shows the content.
    """

    method: str
    path: str
    request_id: str
    content: bytes | None = field(default=None, repr=False)
    idempotency_key: str | None = field(default=None, repr=False)
    accept: str | None = field(default=None, repr=False)
    media_type: str = field(default="application/json", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of this request alone."""
        identity = {"X-Request-ID": self.request_id}
        if self.idempotency_key is not None:
            identity["Idempotency-Key"] = f'"{self.idempotency_key}"'
        if self.accept is not None:
            identity["Accept"] = self.accept
        return identity if self.content is None else {**identity, "Content-Type": self.media_type}


def get(path: str, request_id: str | None = None) -> Request:
    """Make a GET request, under a new UUID 4 if it has no `request_id`."""
    return Request("GET", path, _identity(request_id))


def post(path: str, body: Mapping[str, object], request_id: str | None = None) -> Request:
    """Make a POST request with a JSON body, under a new idempotency key."""
    # ASCII only: encoding a lone surrogate would fail here, with an error that quotes the applicant's value.
    content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Request("POST", path, _identity(request_id), content, str(uuid.uuid4()))


def checked_header(value: str, name: str) -> str:
    """Return `value` if it can be sent as a header; TypeError or ValueError, without the value, if it cannot.

    >>> checked_header("secret\\n", "api_key")
    Traceback (most recent call last):
    ValueError: api_key must be one or more visible ASCII characters
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text")
    if not _VISIBLE_ASCII.fullmatch(value):
        raise ValueError(f"{name} must be one or more visible ASCII characters")
    return value


def _identity(request_id: str | None) -> str:
    return str(uuid.uuid4()) if request_id is None else checked_header(request_id, "request_id")


Reply = httpx.Response | httpx.RequestError
"""The result of one attempt: an answer, or the reason why there is none."""

Choice = TypeVar("Choice", bound=str)
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON object of a 2xx answer. Reading a field of the wrong type raises UnexpectedAnswer."""

    fields: Mapping[str, Any]
    status: int
    request_id: str
    where: str = ""

    def text(self, name: str) -> str:
        """Return a text field; UnexpectedAnswer if it is absent."""
        return self._checked(name, self._get(name), str, "text")

    def optional_text(self, name: str) -> str | None:
        """Return a text field; None if it is null or absent."""
        return None if self._get(name) is None else self.text(name)

    def integer(self, name: str) -> int:
        """Return an integer field; UnexpectedAnswer if it is absent."""
        return self._checked(name, self._get(name), int, "an integer")

    def optional_integer(self, name: str) -> int | None:
        """Return an integer field; None if it is null or absent, since older servers leave it out."""
        return None if self._get(name) is None else self.integer(name)

    def number(self, name: str) -> float:
        """Return a finite number; UnexpectedAnswer if it is absent."""
        value = self._checked(name, self._get(name), (int, float), "a number")
        # NaN fails this comparison too. json reads Infinity, NaN and integers that no float can hold.
        if not abs(value) <= sys.float_info.max:
            raise self.unexpected(name, "is not finite")
        return float(value)

    def moment(self, name: str) -> datetime:
        """Return a moment in UTC, read from RFC 3339."""
        try:
            moment = datetime.fromisoformat(self.text(name))
        except ValueError:
            raise self.unexpected(name, "is not a date and time") from None
        if moment.tzinfo is None:
            raise self.unexpected(name, "has no time zone")
        return moment.astimezone(UTC)

    def choice(self, name: str, choices: Iterable[Choice]) -> Choice:
        """Return a text field that must be one of `choices`."""
        value = self.text(name)
        for choice in choices:
            if choice == value:
                return choice
        raise self.unexpected(name, f"is none of {', '.join(choices)}")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of text; empty if the field is null or absent."""
        values = [] if self._get(name) is None else self._list(name)
        return tuple(self._checked(f"{name}[{i}]", value, str, "text") for i, value in enumerate(values))

    def flag(self, name: str) -> bool:
        """Return true or false; UnexpectedAnswer if it is absent."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self.unexpected(name, "is neither true nor false")
        return value

    def row(self, name: str) -> Answer:
        """Return an object as an answer."""
        return self._row(name, self._get(name))

    def rows(self, name: str) -> tuple[Answer, ...]:
        """Return a list of objects as answers."""
        return tuple(self._row(f"{name}[{i}]", value) for i, value in enumerate(self._list(name)))

    def unexpected(self, name: str, what: str) -> UnexpectedAnswer:
        """Make the error that names a field and its fault, without its value."""
        return unexpected(f"{self.where}{name} {what}", self.status, self.request_id)

    def _get(self, name: str) -> Any:
        return self.fields.get(name)

    def _list(self, name: str) -> list[Any]:
        return self._checked(name, self._get(name), list, "a list")

    def _row(self, name: str, value: Any) -> Answer:
        fields = self._checked(name, value, dict, "an object")
        return replace(self, fields=fields, where=f"{self.where}{name}.")

    def _checked(self, name: str, value: Any, kind: type[Kind] | tuple[type[Kind], ...], noun: str) -> Kind:
        if not isinstance(value, kind) or isinstance(value, bool):  # bool is a subclass of int
            raise self.unexpected(name, f"is not {noun}")
        return value


def accepted(reply: Reply, request: Request) -> httpx.Response:
    """Return the answer if its status is 2xx; raise the ClientError that stands for anything else."""
    if isinstance(reply, httpx.RequestError):
        raise _failure(reply, request) from reply
    if not reply.is_success:
        raise refusal(problem_of(reply), reply_id(reply, request))
    return reply


def answer_in(reply: Reply, request: Request) -> Answer:
    """Read the JSON object that answers a request; raises the ClientError that stands for anything else."""
    response = accepted(reply, request)
    request_id = reply_id(response, request)
    return Answer(_object_in(response, request_id), response.status_code, request_id)


def svg_in(reply: Reply, request: Request) -> str:
    """Read the SVG that answers a request; UnexpectedAnswer for another media type, as of a server that draws none."""
    response = accepted(reply, request)
    if response.headers.get("Content-Type", "").partition(";")[0].strip() != SVG:
        raise unexpected("the body is not SVG", response.status_code, reply_id(response, request))
    return response.content.decode(errors="replace")


def reply_id(response: httpx.Response, request: Request) -> str:
    """Return the request id of an answer."""
    # A proxy or an older server may replace the id or leave it out.
    return response.headers.get("X-Request-ID") or request.request_id


def _failure(error: httpx.RequestError, request: Request) -> ClientError:
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else ConnectionFailed
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return kind(f"no answer to {request.method} {request.path}: {reason}", request.request_id)


def _object_in(response: httpx.Response, request_id: str) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        raise unexpected("the body is not JSON", response.status_code, request_id) from None
    if not isinstance(body, dict):
        raise unexpected("the body is not a JSON object", response.status_code, request_id)
    return body


def unexpected(detail: str, status: int, request_id: str) -> UnexpectedAnswer:
    """Make the error of an answer that breaks the HTTP contract."""
    return UnexpectedAnswer(Problem(status=status, title="Unexpected answer", detail=detail), request_id)


DecisionName = Literal["approve", "refer", "decline"]
"""The decision on an application."""

RiskLevelName = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
"""Bands of PD, from best to worst."""

_DECISIONS: tuple[DecisionName, ...] = get_args(DecisionName)
_RISK_LEVELS: tuple[RiskLevelName, ...] = get_args(RiskLevelName)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditDecision:
    """One application decided.

    `probability` is the calibrated PD in [0, 1], `prediction` 1 where it reaches `threshold`, else 0. `score` is in
    points, higher is better. `timestamp` is in UTC. `client_id` is None if none was sent. `missing` says how many
    columns that the model reads are missing, `unknown_columns` which have a level that the model does not know.
    `withheld` says why an application that the PD would approve is referred. `reasons` are those of a decline, what
    raised the risk most first. `history` says where the client's history came from, or why there is none, where the
    model reads it.
    """

    request_id: str
    client_id: str | None
    timestamp: datetime
    model_version: str
    probability: float
    prediction: int
    threshold: float
    decision: DecisionName
    risk_level: RiskLevelName
    score: int
    missing: int | None = None
    unknown: int | None = None
    unknown_columns: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    reasons: tuple[DecisionReason, ...] = ()
    history: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionReason:
    """A reason of a decision: its code, and the words to tell the applicant."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonContribution:
    """What the features behind a reason add to the margin; `reason` is None for those of protected attributes."""

    reason: DecisionReason | None
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedValue:
    """A column of the application, its value as it was sent and as it would be."""

    column: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeApplication:
    """An application that the model approves: every column in which it differs, and its PD."""

    columns: tuple[ChangedValue, ...]
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachingChanges:
    """The smallest changes that reach approval; `complete` is False where the search was cut short."""

    alternatives: tuple[AlternativeApplication, ...]
    complete: bool
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedDecision:
    """A decision, whose reasons are given whatever it is, and what its margin is made of.

    `margin` is the raw log-odds of default: `base`, the mean margin of the reference group, and the contributions add
    up to it. `explained_by` names the method and its reference group. `changes` is None unless they were asked for.
    """

    decision: CreditDecision
    margin: float
    base: float
    contributions: tuple[ReasonContribution, ...]
    explained_by: str
    missing_columns: tuple[str, ...] = ()
    changes: ReachingChanges | None = None


def decision_in(answer: Answer) -> CreditDecision:
    """Read a decision; unknown fields are ignored, so that a newer server can add some."""
    return CreditDecision(
        request_id=answer.optional_text("request_id") or answer.request_id,
        client_id=answer.optional_text("client_id"),
        timestamp=answer.moment("timestamp"),
        model_version=answer.text("model_version"),
        probability=answer.number("probability"),
        prediction=answer.integer("prediction"),
        threshold=answer.number("threshold"),
        decision=answer.choice("decision", _DECISIONS),
        risk_level=answer.choice("risk_level", _RISK_LEVELS),
        score=answer.integer("score"),
        missing=answer.optional_integer("missing"),
        unknown=answer.optional_integer("unknown"),
        unknown_columns=answer.texts("unknown_columns"),
        withheld=answer.texts("withheld"),
        reasons=() if answer.fields.get("reasons") is None else tuple(map(_reason, answer.rows("reasons"))),
        history=answer.optional_text("history"),
    )


def _reason(answer: Answer) -> DecisionReason:
    return DecisionReason(code=answer.text("code"), text=answer.text("text"))


def explained_in(answer: Answer) -> ExplainedDecision:
    """Read a decision with its explanation."""
    return ExplainedDecision(
        decision=decision_in(answer),
        margin=answer.number("margin"),
        base=answer.number("base"),
        contributions=tuple(map(_contribution, answer.rows("contributions"))),
        explained_by=answer.text("explained_by"),
        missing_columns=answer.texts("missing_columns"),
        changes=None if answer.fields.get("changes") is None else _changes(answer.row("changes")),
    )


def _changes(answer: Answer) -> ReachingChanges:
    return ReachingChanges(
        alternatives=tuple(map(_alternative, answer.rows("alternatives"))),
        complete=answer.flag("complete"),
        says=answer.text("says"),
    )


def _alternative(answer: Answer) -> AlternativeApplication:
    columns = tuple(
        ChangedValue(column=row.text("column"), before=row.number("from"), after=row.number("to"))
        for row in answer.rows("columns")
    )
    return AlternativeApplication(columns=columns, probability=answer.number("probability"))


def _contribution(answer: Answer) -> ReasonContribution:
    reason = None if answer.optional_text("code") is None else _reason(answer)
    return ReasonContribution(reason=reason, contribution=answer.number("contribution"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's decision in the place of another, as it was recorded.

    `actor` names the API key of the person; None where the server needs no keys. `was` is the decision that stood.
    """

    request_id: str
    index: int
    timestamp: datetime
    actor: str | None
    was: DecisionName
    decision: DecisionName
    reason: str


def override_in(answer: Answer) -> Override:
    """Read an override."""
    return Override(
        request_id=answer.text("request_id"),
        index=answer.integer("index"),
        timestamp=answer.moment("timestamp"),
        actor=answer.optional_text("actor"),
        was=answer.choice("was", _DECISIONS),
        decision=answer.choice("decision", _DECISIONS),
        reason=answer.text("reason"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedApplication:
    """An application of a batch that was not scored; `index` is its position among those sent."""

    index: int
    errors: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The result of each application of a batch, in the order in which they were sent."""

    request_id: str
    model_version: str
    results: tuple[CreditDecision | RejectedApplication, ...]


def batch_in(answer: Answer, size: int) -> BatchResult:
    """Read the result of a batch of `size` applications; UnexpectedAnswer if its rows do not match them."""
    version = answer.text("model_version")
    rows = answer.rows("results")
    # Rows are matched to applicants by position: one row too few would give them the decisions of others.
    if len(rows) != size:
        raise answer.unexpected("results", f"has {len(rows)} rows for {size} applications")
    results = tuple(_result(row, position, version) for position, row in enumerate(rows))
    return BatchResult(request_id=answer.request_id, model_version=version, results=results)


def _result(row: Answer, position: int, version: str) -> CreditDecision | RejectedApplication:
    if row.fields.get("status") != "rejected":
        return decision_in(replace(row, fields={"model_version": version, **row.fields}))
    if row.integer("index") != position:
        raise row.unexpected("index", "is not the position of its row")
    return RejectedApplication(index=position, errors=violations_in(row.fields.get("errors")))
