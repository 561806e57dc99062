"""Errors of the client.

ClientError
  * ConnectionFailed     no whole answer came: refused, reset or garbled
  * TimedOut             no answer in time
  * ResponseError        the server answered, but not with a result (also 404, 405, 409 and redirects)
      + InvalidRequest     400, 413, 415, 422: the request is wrong; sending it again does not help
      + Unauthorized       401, 403: the API key is missing, unknown or not entitled
      + Overloaded         429, 503: too much work or not ready; later it may succeed
      + ServerError        any other 5xx
      + UnexpectedAnswer   2xx, but the body breaks the HTTP contract

An argument that cannot be sent is a ValueError or TypeError, raised before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import httpx

_SHOWN_VIOLATIONS = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault of a request: its place, and what is allowed there.

    >>> str(Violation(loc=("application", "AMT_CREDIT"), msg="must be positive"))
    'application.AMT_CREDIT: must be positive'
    """

    loc: tuple[str | int, ...]
    msg: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.msg}"


@dataclass(frozen=True, slots=True)
class Problem:
    """The problem details of an answer; a member that the server left out is empty.

    >>> str(Problem(status=404, title="Not Found"))
    '404 Not Found'
    """

    status: int
    title: str
    detail: str = ""
    type: str = "about:blank"
    errors: tuple[Violation, ...] = ()

    def __str__(self) -> str:
        headline = f"{self.status} {self.title}".rstrip()
        shown = [str(violation) for violation in self.errors[:_SHOWN_VIOLATIONS]]
        hidden = len(self.errors) - len(shown)
        return "; ".join(filter(None, [headline, self.detail, *shown, f"{hidden} more" if hidden else ""]))


def problem_of(response: httpx.Response) -> Problem:
    """Read the problem of a response, whatever its body is."""
    # RFC 9457, 3.1: a member of the wrong type is ignored. A proxy in front may answer in HTML.
    fields = _object_in(response)
    return Problem(
        status=response.status_code,
        title=_text(fields, "title") or httpx.codes.get_reason_phrase(response.status_code),
        detail=_text(fields, "detail"),
        type=_text(fields, "type") or "about:blank",
        errors=violations_in(fields.get("errors")),
    )


def violations_in(value: object) -> tuple[Violation, ...]:
    """Return the well-formed violations of a list; empty if `value` is not a list."""
    found = map(_violation, value if isinstance(value, list) else [])
    return tuple(violation for violation in found if violation is not None)


def _violation(value: object) -> Violation | None:
    match value:
        case {"loc": [*loc], "msg": str(msg)} if all(isinstance(part, str | int) for part in loc):
            return Violation(loc=tuple(loc), msg=msg)
    return None


def _object_in(response: httpx.Response) -> Mapping[str, object]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


# ruff: noqa: N818 - callers read these names in except clauses, where "Error" adds nothing


class ClientError(Exception):
    """Base of every error of a call; `request_id` finds the call in the server's records."""

    def __init__(self, reason: object, request_id: str) -> None:
        super().__init__(reason, request_id)  # both in args, so that the error can be pickled between processes
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.args[0]} (request {self.request_id})"


class ConnectionFailed(ClientError):
    """No whole answer came: the server refused or reset the connection, or broke the HTTP protocol."""


class TimedOut(ClientError):
    """The server took too long to accept the connection, to answer, or to become ready."""


class ResponseError(ClientError):
    """The server answered, but not with a result."""

    def __init__(self, problem: Problem, request_id: str) -> None:
        super().__init__(problem, request_id)
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.problem.status

    @property
    def title(self) -> str:
        """The kind of problem; the status' own phrase if the server named none."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """The fault of this request; empty if the server did not say."""
        return self.problem.detail


class InvalidRequest(ResponseError):
    """The request is wrong; sending it again does not help."""

    @property
    def errors(self) -> tuple[Violation, ...]:
        """The faults and their places; empty if the server did not say."""
        return self.problem.errors


class Unauthorized(ResponseError):
    """The API key is missing, unknown or not entitled."""


class Overloaded(ResponseError):
    """The server has too much work or is not ready; later it may succeed."""


class ServerError(ResponseError):
    """The server failed."""


class UnexpectedAnswer(ResponseError):
    """An answer with a 2xx status whose body breaks the HTTP contract."""


_BY_STATUS: dict[int, type[ResponseError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Overloaded,
}


def refusal(problem: Problem, request_id: str) -> ResponseError:
    """Return the error for a problem's status.

    >>> refusal(Problem(status=504, title="Gateway Timeout"), "a1")
    ServerError(Problem(status=504, title='Gateway Timeout', detail='', type='about:blank', errors=()), 'a1')
    """
    failed = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return _BY_STATUS.get(problem.status, ServerError if failed else ResponseError)(problem, request_id)
