"""Hostile requests: made by schemathesis from the OpenAPI document, and by hand where it does not reach."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from typing import Any

from tests.home_credit import APPLICATION, EXAMPLE
from tests.serving.tables import mutated

MARK = "S3CR3T-VALUE"
NUMBER = "918273645"
"""Stand for an applicant's values: neither may be in an answer or the log."""

SCORING = ("/predict", "/predict/batch", "/predict/features", "/explain")
PATHS = (
    *SCORING,
    "/model/info",
    "/drift",
    "/health",
    "/metrics",
    "/docs.json",
    "/",
    "/schema.json",
    "/nothing",
    "/%00",
)
_KNOWN_AGAIN = 9
"""Characters."""

COLUMNS = tuple(EXAMPLE["application"])
JSON = {"Content-Type": "application/json"}
VALUES: tuple[Any, ...] = (
    MARK, MARK * 1_000, f"{MARK}\x00\n\r", f"\u202e{MARK}\ud800", int(NUMBER), -float(NUMBER), 10**400, 1e308, -0.0,
    True, [], [MARK], {MARK: MARK}, {"$ref": MARK}, "", "'; DROP TABLE applications; --", "{{7*7}}", "${jndi:x}",
)  # fmt: skip
NUMBERS = (None, 1e308, -1e308, 5e-324, -0.0, int(NUMBER))
MEDIA_TYPES = (
    "application/vnd.bentoml+pickle", "application/x-pickle", "application/octet-stream", "multipart/form-data",
    "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain", "application/json, text/xml",
    "application/json; charset=utf-16", "\xff", "",
)  # fmt: skip


@dataclass
class Findings:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def note(self, status: int, answer: bytes, of: str, values: Iterable[bytes] = ()) -> None:
        """Look at an answer; `of` says to what, and `values` are those that the request held."""
        self.statuses[status] += 1
        if status >= 500:
            self.faults.append(f"{status} to {of}")
        for forbidden in (MARK.encode(), NUMBER.encode(), b"Traceback", b'File "', *values):
            if forbidden in answer:
                self.faults.append(f"{forbidden!r} in the answer to {of}")


@dataclass(frozen=True)
class Hostile:
    """One request made by hand."""

    kind: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    content: bytes


def values_in(body: Any) -> set[bytes]:
    """The values of applications in a request that are long enough to be known again in an answer.

    Not those that are also in a column's name, or somewhere in it the name of a field or a client id: answers name
    fields and clients.
    """
    values = set(_leaves(body)) - set(_named(body))
    return {value for value in values if not any(value in column.name.encode() for column in APPLICATION)}


def _named(body: Any) -> Iterator[bytes]:
    match body:
        case dict():
            for name, value in body.items():
                yield from _leaves([name, value] if name == "client_id" else [name])
                yield from _named(value)
        case list():
            for value in body:
                yield from _named(value)


def _leaves(body: Any) -> Iterator[bytes]:
    match body:
        case dict():
            for value in body.values():
                yield from _leaves(value)
        case list():
            for value in body:
                yield from _leaves(value)
        case str() if len(body) >= _KNOWN_AGAIN:
            yield json.dumps(body, ensure_ascii=False)[1:-1].encode(errors="surrogatepass")
        case int() | float() if len(repr(body)) >= _KNOWN_AGAIN:
            yield repr(body).encode()


def hostile(seed: int, key: str, categories: Sequence[bool]) -> Iterator[Hostile]:
    """Requests without end, the same ones for the same seed; `categories` says which features of the model are some."""
    draw = random.Random(seed)
    vector = partial(_vector, categories=categories)
    tables = mutated(seed)
    kinds = (_value, _column, _broken, _nested, _media_type, _header, _credential, _route, vector, _batch)
    while True:
        yield draw.choice((*kinds, lambda _, key: _table(next(tables), key)))(draw, key)


def send(connection: HTTPConnection, request: Hostile, findings: Findings) -> int:
    """Send one as it is, which a well-behaved client would refuse to, and look at what comes back; its status."""
    connection.putrequest(request.method, request.path)
    for name, value in [*request.headers, (b"Content-Length", b"%d" % len(request.content))]:
        connection.putheader(name.decode("latin-1"), value)
    connection.endheaders(request.content)
    answer = connection.getresponse()
    findings.note(answer.status, answer.read(), f"{request.kind}: {request.method} {request.path[:40]}")
    return answer.status


def _post(
    kind: str, path: str, body: bytes, key: str, extra: tuple[tuple[str, str], ...] = (), media_type: str | None = None
) -> Hostile:
    media = (media_type if media_type is not None else "application/json").encode("latin-1")
    headers = [(b"Content-Type", media), (b"X-API-Key", key.encode())]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra]
    return Hostile(kind, "POST", path, headers, body)


def _application(draw: random.Random, **changes: Any) -> dict[str, Any]:
    return {"application": {**EXAMPLE["application"], draw.choice(COLUMNS): draw.choice(VALUES), **changes}}


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def _value(draw: random.Random, key: str) -> Hostile:
    return _post("value", "/predict", _encoded(_application(draw)), key)


def _column(draw: random.Random, key: str) -> Hostile:
    unknown = {f"COLUMN_{draw.randrange(10**6)}": MARK, "__proto__": MARK, "client_id\x00": NUMBER}
    return _post("column", "/predict", _encoded(_application(draw, **unknown)), key)


def _broken(draw: random.Random, key: str) -> Hostile:
    """A legal body in which bytes are cut off, doubled or turned round."""
    body = bytearray(_encoded({**EXAMPLE, "client_id": MARK}))
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(body))
        body[place : place + draw.randrange(4)] = draw.randbytes(draw.randrange(4))
    end = draw.choice((len(body), draw.randrange(len(body))))
    return _post("broken", draw.choice(SCORING), bytes(body[:end]).replace(MARK.encode(), b"x"), key)


def _nested(draw: random.Random, key: str) -> Hostile:
    depth = draw.choice((10, 200, 5_000, 30_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}"), ('{"application":', "}")))
    return _post("nested", draw.choice(SCORING), (opening * depth + "1" + closing * depth)[:60_000].encode(), key)


def _media_type(draw: random.Random, key: str) -> Hostile:
    body = draw.choice((b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", b"a=1", _encoded(EXAMPLE)))
    return _post("media type", draw.choice(SCORING), body, key, media_type=draw.choice(MEDIA_TYPES))


def _header(draw: random.Random, key: str) -> Hostile:
    name = draw.choice(
        ("X-Request-ID", "Accept", "Content-Encoding", "Cookie", "X-Forwarded-For", "Traceparent", "Range")
    )
    value = draw.choice(("\xff\xfe", MARK * 300, "gzip", "0", "-1", "../../etc/passwd", "bytes=0-"))
    return _post("header", "/predict", _encoded(_application(draw)), key, extra=((name, value),))


def _credential(draw: random.Random, key: str) -> Hostile:
    wrong = draw.choice(("", "\xff" * 59, key[:-1], key + "0", key.upper(), "x" * 16_000, f"{key} ", f"Bearer {key}"))
    headers = [(draw.choice((b"X-API-Key", b"Authorization")), wrong.encode("latin-1"))] * draw.randrange(1, 4)
    return Hostile("credential", "POST", draw.choice(PATHS), headers, _encoded(EXAMPLE))


def _route(draw: random.Random, key: str) -> Hostile:
    method = draw.choice(("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"))
    tail = draw.choice(("", "/", "?" + "a=1&" * 100, "/../admin", ";x", "%2e%2e", "//", "/" + "x" * 2_000))
    return Hostile("route", method, draw.choice(PATHS) + tail, [(b"X-API-Key", key.encode())], b"")


def _vector(draw: random.Random, key: str, categories: Sequence[bool]) -> Hostile:
    """Some are legal, however absurd, and are scored."""
    legal = [draw.choice((None, 0.0) if category else NUMBERS) for category in categories]
    width = len(categories)
    features = draw.choice((legal, [MARK], [None] * draw.randrange(400), [1e308] * width, legal[1:], MARK, {}))
    return _post("vector", "/predict/features", _encoded({"features": features}), key)


def _batch(draw: random.Random, key: str) -> Hostile:
    rows: list[Any] = [draw.choice((_application(draw), {}, None, MARK, [])) for _ in range(draw.randrange(12))]
    return _post("batch", "/predict/batch", _encoded({"applications": rows}), key)


def _table(mutant: tuple[bytes, bytes], key: str) -> Hostile:
    media_type, body = mutant
    return _post("table", "/predict/batch", body, key, media_type=media_type.decode())
