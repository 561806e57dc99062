"""Signed checkpoints: what a segment held at a moment, kept where its writer cannot change it.

A checkpoint is a signed note as C2SP's tlog-checkpoint and signed-note define it. Its lines are the origin with the
name of the segment, the number of records, and the root of their Merkle tree in base64. Extension lines follow:

time       when it was made, RFC 3339, UTC
header     SHA-256 of the segment's first line, base64
previous   the worker's segment before, its records and their root; `-` without one
state      growing, final at the end of a segment, recovered where its worker was killed and another one ended it, or
           expired where it was removed for its age
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from pydantic import Field

from decision_log.errors import CheckpointError
from decision_log.format import Previous
from jobs.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ORIGIN = "credit-scoring-decision-log/"
_ED25519 = b"\x01"
_KEY_ID_BYTES, _SIGNATURE_BYTES = 4, 64
_MOST_HASHES = 1 << 25
"""Bytes of hashes that wait for an address that fails; beyond them they are given up, the checkpoints are not."""


class CheckpointSettings(Settings):
    """When a worker signs what it has written; only if something is new."""

    seconds: float = Field(gt=0, le=60)
    records: int = Field(ge=1)


class SegmentState(StrEnum):
    """How a segment stood when its checkpoint was made."""

    GROWING = "growing"
    FINAL = "final"
    RECOVERED = "recovered"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a segment has been written.

    Attributes
    ----------
    size, root : its records, and the root of their tree
    header : SHA-256 of its first line
    hashes : of the records that no checkpoint has covered yet, one after another
    finished : whether nothing more is written
    """

    segment: str
    size: int
    root: bytes
    header: bytes
    previous: Previous | None
    hashes: bytes
    finished: bool

    def after(self, earlier: Extent | None) -> Extent:
        """The same with the hashes that have waited since before."""
        waiting = b"" if earlier is None else earlier.hashes
        return replace(self, hashes=(waiting + self.hashes)[-_MOST_HASHES:])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint without its signature."""

    segment: str
    size: int
    root: bytes
    time: datetime
    header: bytes
    previous: Previous | None
    state: SegmentState

    @property
    def origin(self) -> str:
        """The name of the tree, and of the key that signs for it."""
        return _ORIGIN + self.segment

    def text(self) -> bytes:
        """The bytes that are signed."""
        before = "-" if self.previous is None else " ".join(map(str, self.previous))
        lines = (
            self.origin,
            self.size,
            encoded64(self.root),
            f"time {self.time.astimezone(UTC).isoformat(timespec='microseconds').replace('+00:00', 'Z')}",
            f"header {encoded64(self.header)}",
            f"previous {before}",
            f"state {self.state}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the signed bytes; ValueError if they are no checkpoint of a segment."""
        origin, size, root, *extensions = text.decode().splitlines()
        said = dict(line.split(" ", 1) for line in extensions)
        before = said["previous"].split(" ") if said.keys() >= {"time", "header", "previous", "state"} else []
        if not origin.startswith(_ORIGIN) or len(before) not in (1, 3):
            raise ValueError("not a checkpoint")
        return cls(
            segment=origin.removeprefix(_ORIGIN),
            size=int(size),
            root=b64decode(root, validate=True),
            time=datetime.fromisoformat(said["time"]),
            header=b64decode(said["header"], validate=True),
            previous=Previous(before[0], int(before[1]), before[2]) if len(before) == len(Previous._fields) else None,
            state=SegmentState(said["state"]),
        )

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The note of this checkpoint."""
        return signed_note(self.text(), key)


def signed_note(text: bytes, key: Ed25519PrivateKey) -> bytes:
    """A signed note: the text, an empty line, and the signature by a key that is named as the first line says."""
    name = text.split(b"\n", 1)[0].decode()
    signature = _key_id(name, key.public_key()) + key.sign(text)
    return text + f"\n\N{EM DASH} {name} {encoded64(signature)}\n".encode()


def signed_text(note: bytes, key: Ed25519PublicKey) -> bytes:
    """The text of a signed note; ValueError if it is none, CheckpointError if this key has not signed it."""
    from cryptography.exceptions import InvalidSignature

    text, _, last = note.rpartition(b"\n\n")
    dash, name, encoded = last.decode().rstrip("\n").split(" ")
    signature = b64decode(encoded, validate=True)
    if dash != "\N{EM DASH}" or len(signature) != _KEY_ID_BYTES + _SIGNATURE_BYTES:
        raise ValueError("not a signed note")
    try:
        key.verify(signature[_KEY_ID_BYTES:], text + b"\n")
    except InvalidSignature:
        raise CheckpointError("a note is not signed by this key") from None
    if name != text.split(b"\n", 1)[0].decode() or signature[:_KEY_ID_BYTES] != _key_id(name, key):
        raise CheckpointError("a note is not signed by this key")
    return text + b"\n"


def verified(note: bytes, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint in a note; ValueError if it is none, CheckpointError if this key has not signed it."""
    found = Checkpoint.parse(note.rpartition(b"\n\n")[0] + b"\n")
    try:
        signed_text(note, key)
    except CheckpointError:
        raise CheckpointError(f"a checkpoint of {found.segment} is not signed by this key") from None
    return found


def notes_in(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The signed notes among lines, which may be torn in between by a crash.

    >>> list(notes_in([b"torn", b"\\n", b"\\n", b"text\\n", b"\\n", "\N{EM DASH} name c2lnbg==\\n".encode()]))[0][:6]
    b'text\\n\\n'
    """
    text: list[bytes] = []
    for line in lines:
        if line.startswith("\N{EM DASH} ".encode()) and text[-1:] == [b"\n"]:
            yield b"".join((*text, line))
            text = []
        elif line == b"\n" and text and text[-1] != b"\n":
            text.append(line)
        elif line == b"\n" or text[-1:] == [b"\n"]:  # what came before is no note
            text = [] if line == b"\n" else [line]
        else:
            text.append(line)


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:_KEY_ID_BYTES]


def encoded64(content: bytes) -> str:
    """The bytes in base64."""
    return b64encode(content).decode("ascii")


def header_hash(line: bytes) -> bytes:
    """The hash of a header line that checkpoints hold."""
    return sha256(line.removesuffix(b"\n")).digest()
