"""Framing of HTTP/1.1 (RFC 9112): check the head of a request, and remove the chunked coding from its body.

A head that two readers could understand differently is refused.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"[A-Z-]+ [^\x00-\x20\x7f]+ HTTP/(\d\.\d)\r\n")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|upgrade|http2-settings):[ \t]*([^\r\n]*)", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\n(?:upgrade|http2-settings):[^\r\n]*", re.IGNORECASE)
_AUTHORITY = re.compile(rb"[A-Z-]+ https?://([^/?# ]+)", re.IGNORECASE)
_HOST = re.compile(rb"\r\nhost:([^\r\n]*)", re.IGNORECASE)
_USUAL = re.compile(rb"POST (/[\w/.-]*) HTTP/1\.1\r\n((?:[\w-]+:[\x20-\x7e]*\r\n)+)\r\n")
_STATED_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)
_STAYS = b"keep-alive"
_UNUSUAL = frozenset(
    {b"expect", b"proxy-connection", b"http2-settings", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields that change how the connection is read or answered."""
_LENGTH = re.compile(rb"[0-9]{1,15}")
_LONGEST_KEPT = 1_024
"""Bytes of a head that a connection remembers: thousands of connections wait at a time."""
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(_TOKEN + rb":[^\r\n\x00]*")
_LONGEST_LINE = 1024
"""Bytes of a line with a chunk's size and extensions, or with one trailer."""


class Unreadable(Exception):  # noqa: N818 - it becomes an answer
    """A request is refused because of its framing, before the boundary sees it."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def checked_head(head: bytes, most_fields: int) -> tuple[bytes, int | None]:
    """Return the head without `Upgrade` fields, and the length of the body; None if the body is chunked.

    Unreadable if the head breaks RFC 9112 or has more than `most_fields` fields.

    >>> checked_head(b"POST /predict HTTP/1.1\\r\\nUpgrade: h2c\\r\\nContent-Length: 2\\r\\n\\r\\n", 100)
    (b'POST /predict HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n', 2)
    """
    # A lone CR or LF ends a line for some readers and not for others: two programs would see different fields.
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise _bad("The lines of the head must end with CR LF.")
    # RFC 9112, 5.2 deprecates folded lines; proxies unfold or drop them in different ways.
    if b"\r\n " in head or b"\r\n\t" in head:
        raise _bad("A header field must be on one line.")
    if lines - 2 > most_fields:
        raise Unreadable(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"More than {most_fields} header fields were sent."
        )
    version = _version(head)
    found = [(name.lower(), value.rstrip(b" \t")) for name, value in _FRAMING.findall(head)]
    if len(found) == 1 and found[0][0] == b"content-length":
        return head, _length(found[0][1])
    if any(name in (b"upgrade", b"http2-settings") for name, _ in found):
        # RFC 9110, 7.8 lets a server ignore it. Java's and Spring's clients ask for h2c with every first request.
        head = _UPGRADE.sub(b"", head)
    lengths = [value for name, value in found if name == b"content-length"]
    codings = [value.lower() for name, value in found if name == b"transfer-encoding"]
    if codings:
        _require_chunked(codings, lengths, version)
        return head, None
    if len(lengths) > 1:
        raise _bad("Content-Length was sent more than once.")
    return head, _length(lengths[0]) if lengths else 0


class UsualHead(NamedTuple):
    """The head of a request with plain fields, each of which came once; names are in lower case."""

    target: bytes
    fields: dict[bytes, bytes]
    """All but the length of the body."""


def usual_head(head: bytes) -> tuple[UsualHead, bytes] | None:
    """Return a head that every reader understands alike, and its Content-Length; None for any other, or no POST.

    >>> usual_head(b"POST /predict HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 2\\r\\n\\r\\n")
    (UsualHead(target=b'/predict', fields={b'host': b'a'}), b'2')
    """
    found = _USUAL.fullmatch(head)
    if found is None:
        return None
    lines = found[2].split(b"\r\n")[:-1]
    fields = {name.lower(): value.strip(b" ") for name, _, value in [line.partition(b":") for line in lines]}
    stays = fields.get(b"connection", _STAYS).lower() == _STAYS
    if len(fields) < len(lines) or not stays or not _UNUSUAL.isdisjoint(fields):
        return None
    return UsualHead(found[1], fields), fields.pop(b"content-length", b"")


class UsualHeads:
    """Understands the usual heads of one connection: most differ from the one before in the body's length alone."""

    def __init__(self) -> None:
        self._last: UsualHead | None = None
        self._before = self._behind = b""  # what the last one had before its length, and behind it

    def read(self, head: bytes) -> tuple[UsualHead, bytes] | None:
        """What `usual_head` returns; the same UsualHead again where nothing but the length is new."""
        if self._last is not None and head.startswith(self._before) and head.endswith(self._behind):
            length = head[len(self._before) : len(head) - len(self._behind)]
            if length.isdigit():
                return self._last, length
        found = usual_head(head)
        stated = None if found is None or len(head) > _LONGEST_KEPT else _STATED_LENGTH.search(head)
        if found is not None and stated is not None:
            self._last, self._before, self._behind = found[0], head[: stated.start(1)], head[stated.end(1) :]
        return found


def _version(head: bytes) -> bytes:
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _bad("The request is not HTTP/1.1.")
    if line[1] not in (b"1.1", b"1.0"):
        raise Unreadable(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 and HTTP/1.0 are answered.")
    if b"://" in line[0]:
        _require_same_host(head)
    if head.startswith(b"CONNECT "):
        raise Unreadable(HTTPStatus.NOT_IMPLEMENTED, "The service is not a proxy.")
    return line[1]


def _require_same_host(head: bytes) -> None:
    """Refuse a target whose host is not that of the Host field."""
    # RFC 9112, 3.2.2: the host of the target replaces Host, but the service checks Host alone.
    target, host = _AUTHORITY.match(head), _HOST.search(head)
    if target is None or host is None or target[1].lower() != host[1].strip().lower():
        raise _bad("The target of the request must name the same host as Host.")


def _length(value: bytes) -> int:
    if not _LENGTH.fullmatch(value):
        raise _bad("Content-Length must be a number of at most 15 digits.")
    return int(value)


def _require_chunked(codings: list[bytes], lengths: list[bytes], version: bytes) -> None:
    if lengths:  # request smuggling; RFC 9112, 6.1 lets a server refuse both together
        raise _bad("Content-Length and Transfer-Encoding exclude each other.")
    if version == b"1.0":
        raise _bad("HTTP/1.0 has no Transfer-Encoding.")
    if codings != [b"chunked"]:
        raise Unreadable(HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding must be chunked, and nothing else.")


class Chunks:
    """Removes the chunked coding from one body, and drops extensions and trailers.

    Parameters
    ----------
    trailer_bytes : most bytes of all trailers together
    """

    def __init__(self, trailer_bytes: int) -> None:
        self._trailers_left = trailer_bytes
        self._line = b""
        self._left = 0
        self._ends_chunk = False
        self._in_trailers = False

    def take(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the bytes of the body in `data`, and the bytes behind its end; None until the end has come."""
        data, self._line, at = self._line + data, b"", 0
        pieces: list[bytes] = []
        while True:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return b"".join(pieces), None
            end = data.find(b"\r\n", at, at + _LONGEST_LINE)
            if end < 0:
                if len(data) - at >= _LONGEST_LINE:
                    raise self._too_long()
                self._line = data[at:]
                return b"".join(pieces), None
            line, at = data[at:end], end + 2
            if self._in_trailers and not line:
                return b"".join(pieces), data[at:]
            self._understand(line)

    def _understand(self, line: bytes) -> None:
        if self._in_trailers:
            self._trailers_left -= len(line)
            if self._trailers_left < 0:
                raise self._too_long()
            if not _TRAILER.fullmatch(line):
                raise _bad("A trailer is malformed.")
        elif self._ends_chunk:
            if line:
                raise _bad("A chunk does not end where its size says.")
            self._ends_chunk = False
        else:
            size = _CHUNK.fullmatch(line)
            if size is None:
                raise _bad("The size of a chunk is malformed.")
            self._left = int(size[1], 16)
            self._in_trailers = self._left == 0
            self._ends_chunk = not self._in_trailers

    def _too_long(self) -> Unreadable:
        if self._in_trailers:
            return Unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The trailers are too large.")
        return _bad("The size of a chunk is malformed.")


def _bad(detail: str) -> Unreadable:
    return Unreadable(HTTPStatus.BAD_REQUEST, detail)
