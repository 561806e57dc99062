"""Requests of the HTTP contract."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; `request_id` stays the same however often it is. Neither repr nor any error shows the content."""

    method: str
    path: str
    request_id: str
    content: bytes | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this request alone."""
        identity = {"X-Request-ID": self.request_id}
        return identity if self.content is None else {**identity, "Content-Type": "application/json"}


def get(path: str, request_id: str | None = None) -> Request:
    """Make a GET request, under a new UUID 4 if it has no `request_id`."""
    return Request("GET", path, _identity(request_id))


def post(path: str, body: Mapping[str, object], request_id: str | None = None) -> Request:
    """Make a POST request with a JSON body; ASCII only, so that a lone surrogate is the server's to refuse."""
    content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Request("POST", path, _identity(request_id), content)


def checked_header(value: str, name: str) -> str:
    """`value` if it can be sent as a header; a TypeError or ValueError that does not show it otherwise.

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
