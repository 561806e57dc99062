"""Errors of the service; each is answered as one RFC 9457 problem.

HTTPProblem
  * BadRequest         400
      + NotOffered       400
  * NotJson            400
  * NotTable           400
  * Unauthenticated    401
  * Forbidden          403
  * UnknownDecision    404
  * NotAllowed         405
  * LateBody           408
  * TooLarge           413
  * UnsupportedMedia   415
  * InFlight           409
  * AlreadyStands      409
  * Misdirected        421
  * Invalid            422
  * KeyReused          422
  * TooManyRequests    429
  * Failed             500
  * Unexplained        501
  * Unlogged           501
  * TooBusy            503
  * Unrecorded         503
  * HistoryUnavailable 503
  * Unkept             503
  * NotReady           503
  * AnswerTimedOut     504
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self

from pydantic import ValidationError

MEDIA_TYPE = "application/problem+json"
BLANK = "about:blank"
"""The type of a problem that its status describes (RFC 9457, 4.2.1)."""
Fault = dict[str, Any]

# A body of 64 kB can hold thousands of unknown names: an answer must not grow with what it refuses.
MOST_FAULTS = 200
"""Faults that a refusal lists."""
LONGEST_NAME = 64
"""Characters of an unknown name that are told."""


class HTTPProblem(Exception):  # noqa: N818 - the name RFC 9457 gives it
    """A refusal, with its status and detail. It never holds an applicant's value."""

    status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR
    type: str = BLANK
    """A URI, where a program must tell this refusal from others of its status."""

    def __init__(self, detail: str, *, errors: Sequence[Fault] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def content(self, request_id: str) -> dict[str, Any]:
        """Return the problem document of this refusal."""
        return problem(self.status, self.detail, request_id, self.errors, self.type)


class BadRequest(HTTPProblem):
    """The head of the request is ambiguous, lacks Host or has a field that cannot be used."""

    status = HTTPStatus.BAD_REQUEST


class NotOffered(BadRequest):
    """The service keeps no answers, so that it cannot honour an Idempotency-Key; a client may leave the key out."""

    type = "urn:credit-scoring:idempotency-not-offered"


class Misdirected(HTTPProblem):
    """The request is for a host that this service is not."""

    status = HTTPStatus.MISDIRECTED_REQUEST


class UnknownDecision(HTTPProblem):
    """The decision that the path names is not recorded."""

    status = HTTPStatus.NOT_FOUND


class NotAllowed(HTTPProblem):
    """The route does not answer this method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED

    @classmethod
    def but_post(cls) -> Self:
        """Refuse any method but POST."""
        return cls("The route does not answer this method.", headers={"Allow": "POST"})


class LateBody(HTTPProblem):
    """The body did not come within the limit; the connection is closed."""

    status = HTTPStatus.REQUEST_TIMEOUT

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Refuse after so many seconds."""
        # The rest of the body is not waited for, so no next request can be read on this connection.
        return cls(f"The body did not come within {seconds:g} seconds.", headers={"Connection": "close"})


class NotJson(HTTPProblem):
    """The body is not JSON."""

    status = HTTPStatus.BAD_REQUEST


class NotTable(HTTPProblem):
    """The body is no table of the media type that it is declared as."""

    status = HTTPStatus.BAD_REQUEST


class Unauthenticated(HTTPProblem):
    """The request carries no key that is known."""

    status = HTTPStatus.UNAUTHORIZED

    @classmethod
    def missing(cls) -> Self:
        """Refuse a request without a key."""
        return cls._refusal("An API key is needed, as X-API-Key or as Authorization: Bearer.")

    @classmethod
    def several(cls) -> Self:
        """Refuse a request with more than one key."""
        # A proxy on the way may have admitted the caller by another of the keys.
        return cls._refusal("More than one API key was sent.")

    @classmethod
    def unknown(cls) -> Self:
        """Refuse a key that was never issued, or was revoked."""
        return cls._refusal("The API key is not known.")

    @classmethod
    def _refusal(cls, detail: str) -> Self:
        return cls(detail, headers={"WWW-Authenticate": "Bearer"})  # RFC 9110, 15.5.2 demands it


class Forbidden(HTTPProblem):
    """The key is known but lacks a right."""

    status = HTTPStatus.FORBIDDEN

    @classmethod
    def without(cls, scope: str) -> Self:
        """Refuse a key that lacks a scope."""
        return cls(f"The API key lacks the scope {scope}.")


class TooLarge(HTTPProblem):
    """The body is larger than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMedia(HTTPProblem):
    """The body is not declared as a media type that the route reads."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Invalid(HTTPProblem):
    """The body can be read but does not fit the schema; `errors` says where and why."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def because(cls, errors: Sequence[Fault]) -> Self:
        """Refuse for these faults."""
        return cls("The request does not fit its schema.", errors=errors)


class InFlight(HTTPProblem):
    """A request with the same Idempotency-Key has no answer yet."""

    status = HTTPStatus.CONFLICT

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("The request with this Idempotency-Key is under way.", headers={"Retry-After": str(seconds)})


class AlreadyStands(HTTPProblem):
    """The decision is what the person wants it to be."""

    status = HTTPStatus.CONFLICT


class KeyReused(HTTPProblem):
    """The Idempotency-Key stands for another request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequests(HTTPProblem):
    """The key has been used more often than it may be."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("The API key is used too often.", headers={"Retry-After": str(seconds)})


class Failed(HTTPProblem):
    """The service is at fault."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class Unexplained(HTTPProblem):
    """The model gives no reasons."""

    status = HTTPStatus.NOT_IMPLEMENTED


class Unlogged(HTTPProblem):
    """The request needs a decision log, and the service keeps none."""

    status = HTTPStatus.NOT_IMPLEMENTED


class TooBusy(HTTPProblem):
    """More requests are under way than the service can answer in time."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("Too many requests are under way.", headers={"Retry-After": str(seconds)})


class Unrecorded(HTTPProblem):
    """The decision cannot be recorded, and nothing is decided without a record."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("Decisions cannot be recorded at present.", headers={"Retry-After": str(seconds)})


class HistoryUnavailable(HTTPProblem):
    """The feature store does not answer, and nothing is decided without a history."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("The histories of clients cannot be looked up at present.", headers={"Retry-After": str(seconds)})


class Unkept(HTTPProblem):
    """Answers cannot be kept, so that a repetition would not be known."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    @classmethod
    def after(cls, seconds: int) -> Self:
        """Refuse for now, and say when to come back."""
        return cls("Idempotency-Key cannot be honoured at present.", headers={"Retry-After": str(seconds)})


class NotReady(HTTPProblem):
    """The service is not ready."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class AnswerTimedOut(HTTPProblem):
    """The answer was not ready within the limit."""

    status = HTTPStatus.GATEWAY_TIMEOUT

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Refuse after so many seconds."""
        return cls(f"The answer was not ready within {seconds:g} seconds.")


def problem(
    status: HTTPStatus, detail: str, request_id: str, errors: Sequence[Fault] = (), kind: str = BLANK
) -> dict[str, Any]:
    """Return an RFC 9457 problem document."""
    document = {
        "type": kind,
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "request_id": request_id,
    }
    return {**document, "errors": list(errors)} if errors else document


def faults(error: ValidationError) -> list[Fault]:
    """List where and why a request is invalid, one entry for each of the first 200 places, without any value."""
    # pydantic reports each branch of a union: a flag may be a number or a bool, and the fault of the number is listed.
    found: dict[tuple[str | int, ...], str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:MOST_FAULTS]:
        if item["type"] != "bool_type" or item["loc"][-1] != "bool":
            found[_place(item["loc"])] = item["msg"]
    return [{"loc": list(place), "msg": message} for place, message in found.items()]


def _place(loc: Iterable[str | int]) -> tuple[str | int, ...]:
    """Return the location without pydantic's names for the branches of a union; unknown names are cut short."""
    named = (part for part in loc if isinstance(part, int) or not part.startswith(("literal[", "constrained-")))
    return tuple(part if isinstance(part, int) else part[:LONGEST_NAME] for part in named)
