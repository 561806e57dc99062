"""Decode the bytes of a batch into its applications, one by one.

A parser holds the interpreter's lock for as long as it runs, and all other requests wait. So a batch is first cut into
its applications, in small steps, and each is read like a single request. An invalid one does not spoil the others, and
no step is longer than the largest application takes.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import Field, ValidationError

from features.request import Record
from serving.problems import Fault, Invalid, NotJson
from serving.schemas import NOT_JSON, PredictRequest, decode, refusal, require_distinct_names

_START = re.compile(rb'\s*+\{\s*+"applications"\s*+:\s*+\[\s*+')
_END = re.compile(rb"\]\s*+\}\s*+\Z")  # no blanks in front: a search would scan each run of them again and again
_BETWEEN = re.compile(rb"\}\s*+,\s*+(?=\{)")
_COMMA = re.compile(rb"\s*+,\s*+")
_SCAN = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # what raw_decode calls, without its error
_USUAL_BYTES = 4_096
"""Bytes that are looked at first; most applications are smaller."""
_SPACE = 1_024
"""Bytes of blanks that may lie between two applications."""
_MOST_MARKS = 2_000
"""Brackets, braces and colons of an application, far more than a legal one can have; so many take a parser 1 ms."""
_MOST_LISTS = 10
"""Lists and objects for each application of a batch; a legal application has two objects."""
_MOST_FAULTS = 1_000
"""Faults of a batch that are listed in full; beyond them only the first of each application is."""


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """The applications of a batch that can be scored, their positions, and the faults of the others by position."""

    size: int
    positions: Sequence[int]
    requests: Sequence[PredictRequest]
    rejected: dict[int, list[Fault]]


class _Envelope(Record):
    """A batch, without a look into its applications."""

    applications: list[Any] = Field(min_length=1)


class _WronglyCut(Exception):  # noqa: N818 - a signal within this module
    """A cut was not between two applications."""


def decode_batch(body: bytes, *, limit: int, item_bytes: int) -> ParsedBatch:
    """Decode the body as a batch of at most `limit` applications of at most `item_bytes` bytes each.

    An invalid application is listed as rejected. NotJson or Invalid if the body as a whole is no batch.
    """
    body = body.removeprefix(BOM_UTF8)
    start = _START.match(body)
    if start is None or body.startswith(b"]", start.end()):
        _refuse(body, item_bytes)
    try:
        return _read(_cut(body, start.end(), limit, item_bytes))
    except _WronglyCut:  # there are other values than objects, or a text holds what looks like the end of one
        pass
    try:
        return _read(_scanned(body, start.end(), limit, item_bytes))
    except _WronglyCut:
        raise NotJson(NOT_JSON) from None


def _read(items: Iterator[bytes]) -> ParsedBatch:
    requests: dict[int, PredictRequest] = {}
    rejected: dict[int, list[Fault]] = {}
    said = 0
    for position, item in enumerate(items):
        try:
            requests[position] = _decoded(item)
        except NotJson:
            raise _WronglyCut from None
        except Invalid as invalid:
            rejected[position] = list(invalid.errors if said < _MOST_FAULTS else invalid.errors[:1])
            said += len(rejected[position])
    return ParsedBatch(len(requests) + len(rejected), list(requests), list(requests.values()), rejected)


def _decoded(item: bytes) -> PredictRequest:
    if _marks(item) > _MOST_MARKS:
        raise Invalid.because([{"loc": [], "msg": "holds too many names, lists or objects for an application"}])
    return decode(PredictRequest, item)


def _marks(item: bytes) -> int:
    return item.count(b"[") + item.count(b"{") + item.count(b":")


def _cut(body: bytes, at: int, limit: int, item_bytes: int) -> Iterator[bytes]:
    """Cut at each `},{`. After a wrong cut a piece lacks its end, so that it is no JSON."""
    for _ in range(limit - 1):
        between = _BETWEEN.search(body, at, at + item_bytes + _SPACE)
        if between is None or between.start() - at >= item_bytes:
            break
        yield _plain(body[at : between.start() + 1])
        at = between.end()
    end = _END.search(body, at, at + item_bytes + _SPACE)
    if end is None or end.end() != len(body) or end.start() - at > item_bytes:
        raise _WronglyCut
    yield _plain(body[at : end.start()])


def _plain(item: bytes) -> bytes:
    if _marks(item) > _MOST_MARKS:  # the scanner is quicker here than the parser of applications
        raise _WronglyCut
    return item


def _scanned(body: bytes, at: int, limit: int, item_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of each value of the list, whatever its kind."""
    lists = 0
    for position in range(limit):
        size = _size(body, at, min(_USUAL_BYTES, item_bytes)) or _size(body, at, item_bytes)
        if not size:
            _refuse_item(body, at, position, item_bytes)
        lists += body.count(b"[", at, at + size) + body.count(b"{", at, at + size)
        if lists > _MOST_LISTS * limit:
            raise Invalid.because([{"loc": ["applications"], "msg": "holds too many lists and objects"}])
        yield body[at : at + size]
        comma = _COMMA.match(body, at + size)
        if comma is None:
            _require_end(body, at + size, item_bytes)
            return
        at = comma.end()
    raise Invalid.because([{"loc": ["applications"], "msg": f"holds more than {limit} applications"}])


def _size(body: bytes, at: int, most: int) -> int:
    """Return the number of bytes of the JSON value that begins at `at`; 0 if none ends within `most` bytes."""
    text = body[at : at + most].decode(errors="surrogateescape")
    try:
        _, end = _SCAN(text, 0)
    except (StopIteration, ValueError, RecursionError):
        return 0
    if end == len(text) and at + most < len(body):  # a number may go on
        return 0
    return len(text[:end].encode(errors="surrogateescape"))


def _refuse_item(body: bytes, at: int, position: int, item_bytes: int) -> NoReturn:
    if len(body) - at <= item_bytes:
        raise NotJson(NOT_JSON)
    message = f"is larger than {item_bytes} bytes, or not JSON"
    raise Invalid.because([{"loc": ["applications", position], "msg": message}])


def _require_end(body: bytes, at: int, item_bytes: int) -> None:
    """Refuse a body in which anything but the closing brackets follows the applications."""
    if not _END.match(body, len(body) - len(body[at:].lstrip(b" \t\r\n"))):
        _refuse(b'{"applications":[0' + body[at:], item_bytes)


def _refuse(body: bytes, item_bytes: int) -> NoReturn:
    """Raise the problem of the body as a whole; a large body is not read for it."""
    if len(body) <= item_bytes:
        try:
            _Envelope.model_validate_json(body)
        except ValidationError as error:
            raise refusal(error) from None
        require_distinct_names(body)
    elif not body.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        raise NotJson(NOT_JSON)
    raise Invalid.because([{"loc": [], "msg": 'must be an object of "applications", a list, and nothing else'}])
