"""Judging what came back, and reading answers field by field."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import httpx

from .errors import ClientError, ConnectionFailed, TimedOut, UnexpectedAnswer, refusal
from .problem import Problem, problem_of
from .request import Request

Reply = httpx.Response | httpx.RequestError
"""What one attempt brings: an answer, or why there is none."""

Choice = TypeVar("Choice", bound=StrEnum)
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON object of a 2xx answer. Reading a field of another type than the contract's raises UnexpectedAnswer."""

    fields: Mapping[str, Any]
    status: int
    request_id: str
    where: str = ""

    def text(self, name: str) -> str:
        """Text, which must be there."""
        return self._checked(name, self._get(name), str, "text")

    def optional_text(self, name: str) -> str | None:
        """Text; None if the field is null or absent."""
        return None if self._get(name) is None else self.text(name)

    def integer(self, name: str) -> int:
        """An integer, which must be there."""
        return self._checked(name, self._get(name), int, "an integer")

    def optional_integer(self, name: str) -> int | None:
        """An integer; None if the field is null or absent, as older servers leave it out."""
        return None if self._get(name) is None else self.integer(name)

    def number(self, name: str) -> float:
        """A finite number, which must be there."""
        value = self._checked(name, self._get(name), (int, float), "a number")
        if not abs(value) <= sys.float_info.max:
            raise self.unexpected(name, "is not finite")
        return float(value)

    def moment(self, name: str) -> datetime:
        """A moment in UTC, from RFC 3339."""
        try:
            moment = datetime.fromisoformat(self.text(name))
        except ValueError:
            raise self.unexpected(name, "is not a date and time") from None
        if moment.tzinfo is None:
            raise self.unexpected(name, "has no time zone")
        return moment.astimezone(UTC)

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """One of the values of an enumeration."""
        try:
            return choices(self.text(name))
        except ValueError:
            raise self.unexpected(name, f"is none of {', '.join(choices)}") from None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of text; empty if the field is null or absent."""
        values = [] if self._get(name) is None else self._list(name)
        return tuple(self._checked(f"{name}[{i}]", value, str, "text") for i, value in enumerate(values))

    def rows(self, name: str) -> tuple[Answer, ...]:
        """A list of objects."""
        return tuple(self._row(f"{name}[{i}]", value) for i, value in enumerate(self._list(name)))

    def unexpected(self, name: str, what: str) -> UnexpectedAnswer:
        """Make the error that says what is wrong with a field, without its value."""
        return _unexpected(f"{self.where}{name} {what}", self.status, self.request_id)

    def _get(self, name: str) -> Any:
        return self.fields.get(name)

    def _list(self, name: str) -> list[Any]:
        return self._checked(name, self._get(name), list, "a list")

    def _row(self, name: str, value: Any) -> Answer:
        fields = self._checked(name, value, dict, "an object")
        return replace(self, fields=fields, where=f"{self.where}{name}.")

    def _checked(self, name: str, value: Any, kind: type[Kind] | tuple[type[Kind], ...], noun: str) -> Kind:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.unexpected(name, f"is not {noun}")
        return value


def accepted(reply: Reply, request: Request) -> httpx.Response:
    """Return the answer if its status is 2xx; raise the ClientError that stands for anything else."""
    if isinstance(reply, httpx.RequestError):
        raise _failure(reply, request) from reply
    if not reply.is_success:
        raise refusal(problem_of(reply), _request_id(reply, request))
    return reply


def answer_in(reply: Reply, request: Request) -> Answer:
    """Read the JSON object that answers a request; raises the ClientError that stands for anything else."""
    response = accepted(reply, request)
    request_id = _request_id(response, request)
    return Answer(_object_in(response, request_id), response.status_code, request_id)


def _request_id(response: httpx.Response, request: Request) -> str:
    return response.headers.get("X-Request-ID") or request.request_id


def _failure(error: httpx.RequestError, request: Request) -> ClientError:
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else ConnectionFailed
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return kind(f"no answer to {request.method} {request.path}: {reason}", request.request_id)


def _object_in(response: httpx.Response, request_id: str) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        raise _unexpected("the body is not JSON", response.status_code, request_id) from None
    if not isinstance(body, dict):
        raise _unexpected("the body is not a JSON object", response.status_code, request_id)
    return body


def _unexpected(detail: str, status: int, request_id: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(Problem(status=status, title="Unexpected answer", detail=detail), request_id)
