"""The reader of batches cuts a body into its applications, and reads those.

A parser holds the interpreter's lock for as long as it runs, and all other requests wait. So a batch is first cut into
its applications, and no step is longer than the largest application takes. An application that is not plainly valid is
read like a single request. An invalid one does not spoil the others.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NoReturn

import numpy as np
from pydantic import Field, ValidationError
from pydantic_core import from_json

from features.request import Record
from features.transformer import Columns, concatenate
from serving.problems import Fault, HTTPProblem, Invalid, NotJson
from serving.schemas import (
    MOST_BATCH_FAULTS,
    NOT_JSON,
    BatchRows,
    PredictRequest,
    Requests,
    decode,
    plain_request,
    refusal,
    require_distinct_names,
)

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
_AT_ONCE = 100
"""Applications whose columns are checked together."""
_MOST_LISTS = 10
"""Lists and objects for each application of a batch; a legal application has two objects."""


class _Envelope(Record):
    """A batch, without a look into its applications."""

    applications: list[Any] = Field(min_length=1)


class _WronglyCut(Exception):  # noqa: N818 - a signal within this module
    """A cut was not between two applications."""


def decode_batch(body: bytes, requests: Requests, *, limit: int, item_bytes: int) -> tuple[BatchRows, Columns]:
    """Decode the body as a batch of at most `limit` applications of at most `item_bytes` bytes each.

    The columns are of those that can be scored; an invalid application is listed as rejected. NotJson or Invalid if the
    body as a whole is no batch.
    """
    body = body.removeprefix(BOM_UTF8)
    start = _START.match(body)
    if start is None or body.startswith(b"]", start.end()):
        _refuse(body, item_bytes)
    try:
        return _BatchReader(requests, of_objects=True).read(_cut(body, start.end(), limit, item_bytes))
    except _WronglyCut:  # there are other values than objects, or a text holds what looks like the end of one
        pass
    try:
        return _BatchReader(requests, of_objects=False).read(_scanned(body, start.end(), limit, item_bytes))
    except _WronglyCut:
        raise NotJson(NOT_JSON) from None


class _BatchReader:
    """Reads the applications of a batch: many at once where they are plainly valid, and the others one by one.

    `of_objects` says that nothing but objects was cut out.
    """

    def __init__(self, requests: Requests, *, of_objects: bool) -> None:
        self._requests = requests
        self._of_objects = of_objects
        self._clients: list[str | None] = []
        self._positions: list[int] = []
        self._rejected: dict[int, list[Fault]] = {}
        self._said = 0

    def read(self, items: Iterator[bytes]) -> tuple[BatchRows, Columns]:
        parts = [self._part(part) for part in _several(items)]
        rows = BatchRows(0, len(self._clients), self._positions, self._clients, self._rejected)
        return rows, concatenate(parts)

    def _part(self, items: Sequence[bytes]) -> Columns:
        counted = _marks_of(items)
        parsed = [self._parsed(item, marks) for item, marks in zip(items, counted, strict=True)]
        columns, plain = self._requests.applications.plain([{} if one is None else one[1] for one in parsed])
        valid, first = [], len(self._clients)
        for place, (item, marks, one) in enumerate(zip(items, counted, parsed, strict=True)):
            if one is not None and plain[place]:
                self._clients.append(one[0])
            elif (request := self._judged(item, marks, first + place)) is not None:
                single = self._requests.applications.columns_of([request.application])
                columns.numbers[place], columns.levels[place] = single.numbers[0], single.levels[0]
                self._clients.append(request.client_id)
            else:
                self._clients.append(None)
                continue
            valid.append(place)
        self._positions += [first + place for place in valid]
        return columns if len(valid) == len(items) else columns.take(np.array(valid, dtype=np.intp))

    def _parsed(self, item: bytes, marks: int) -> tuple[str | None, dict[str, Any]] | None:
        """The client and the columns that a piece states; None if it must be read by the model of a request."""
        if marks > _MOST_MARKS:
            if self._of_objects:  # the scanner is quicker here than the parser of applications
                raise _WronglyCut
            return None
        try:
            stated = from_json(item, allow_inf_nan=False)
        except ValueError:
            return None
        # Without the braces of its two objects. More brackets and braces count as colons: then the model judges it.
        return plain_request(item, stated, marks - 2)

    def _judged(self, item: bytes, marks: int, position: int) -> PredictRequest | None:
        try:
            if marks > _MOST_MARKS:
                raise Invalid.because([{"loc": [], "msg": "holds too many names, lists or objects for an application"}])
            return decode(self._requests.item, item)
        except NotJson:
            raise _WronglyCut from None
        except Invalid as invalid:
            self._rejected[position] = list(invalid.errors if self._said < MOST_BATCH_FAULTS else invalid.errors[:1])
            self._said += len(self._rejected[position])
            return None


def _several(items: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield the items, some at a time; those before an error come before it."""
    waiting: list[bytes] = []
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) == _AT_ONCE:
                yield waiting
                waiting = []
    except (_WronglyCut, HTTPProblem):
        yield waiting
        raise
    if waiting:
        yield waiting


def _marks_of(items: Sequence[bytes]) -> list[int]:
    """How many brackets, braces and colons each item has, in a quarter of the time of `bytes.count`."""
    text = np.frombuffer(b"".join(items), dtype=np.uint8)
    marks = (text == ord("[")) | (text == ord("{")) | (text == ord(":"))
    ends = accumulate(map(len, items), initial=0)
    return [int(np.count_nonzero(marks[start:end])) for start, end in pairwise(ends)]


def _cut(body: bytes, at: int, limit: int, item_bytes: int) -> Iterator[bytes]:
    """Cut at each `},{`. After a wrong cut a piece lacks its end, so that it is no JSON."""
    for _ in range(limit - 1):
        between = _BETWEEN.search(body, at, at + item_bytes + _SPACE)
        if between is None or between.start() - at >= item_bytes:
            break
        yield body[at : between.start() + 1]
        at = between.end()
    end = _END.search(body, at, at + item_bytes + _SPACE)
    if end is None or end.end() != len(body) or end.start() - at > item_bytes:
        raise _WronglyCut
    yield body[at : end.start()]


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
            raise refusal(error, body) from None
        require_distinct_names(body)
    elif not body.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        raise NotJson(NOT_JSON)
    raise Invalid.because([{"loc": [], "msg": 'must be an object of "applications", a list, and nothing else'}])
