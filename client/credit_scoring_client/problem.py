"""What an answer other than 2xx says, as a value (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

_SHOWN_VIOLATIONS = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: where, and what is allowed.

    >>> str(Violation(loc=("application", "AMT_CREDIT"), msg="must be positive"))
    'application.AMT_CREDIT: must be positive'
    """

    loc: tuple[str | int, ...]
    msg: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.msg}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem details of an answer; members that the server left out are empty.

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
    """Read the problem that a response states, whatever its body is.

    As RFC 9457 asks, a member of another type than its own counts as absent.
    """
    fields = _object_in(response)
    return Problem(
        status=response.status_code,
        title=_text(fields, "title") or httpx.codes.get_reason_phrase(response.status_code),
        detail=_text(fields, "detail"),
        type=_text(fields, "type") or "about:blank",
        errors=violations_in(fields.get("errors")),
    )


def violations_in(value: object) -> tuple[Violation, ...]:
    """Every well-formed violation of a list; none if it is no list."""
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
