"""Signed checkpoints: what a segment held at a moment, kept where its writer cannot change it.

A checkpoint is a signed note as C2SP's tlog-checkpoint and signed-note define it. Its lines are the origin with the
name of the segment, the number of records, and the root of their Merkle tree in base64. Extension lines follow:

time       when it was made, RFC 3339, UTC
header     SHA-256 of the segment's first line, base64
previous   the worker's segment before, its records and their root; `-` without one
state      growing, final at the end of a segment, recovered where its worker was killed and another one ended it, or
           expired where it was removed for its age

The trees are those of RFC 6962; one grows in O(log n) memory.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from pydantic import Field

from decision_log.errors import CheckpointError
from decision_log.format import SegmentBefore
from jobs.settings import Settings

HASH_BYTES = 32
_ERASED = re.compile(rb'\{"erased":"([0-9a-f]{64})"\} *')


def leaf_hash(line: bytes) -> bytes:
    """The hash of one line, without its end."""
    # Leaves and inner nodes begin with different bytes (RFC 6962, 2.1): no line can pass for a part of the tree.
    return sha256(b"\0" + line).digest()


def erased_line(leaf: bytes, length: int = 0) -> bytes:
    """What stands in place of an erased line: its hash, padded to the length that it had.

    >>> erased_line(bytes(32), 80)[-4:], leaf_of(erased_line(bytes(32), 80)) == bytes(32)
    (b'}   ', True)
    """
    return f'{{"erased":"{leaf.hex()}"}}'.encode().ljust(length)


def leaf_of(line: bytes) -> bytes:
    """The hash of one line, also of one that was erased."""
    found = _ERASED.fullmatch(line)
    return bytes.fromhex(found[1].decode()) if found else leaf_hash(line)


def is_erased(line: bytes) -> bool:
    """Whether the line was erased."""
    return _ERASED.fullmatch(line) is not None


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """A tree that grows by one leaf at a time and keeps only the roots of its whole subtrees.

    >>> tree = MerkleTree.of([leaf_hash(b""), leaf_hash(b"\\0")])
    >>> tree.size, tree.root().hex()[:8], MerkleTree().root().hex()[:8]
    (2, 'fac54203', 'e3b0c442')
    """

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    @classmethod
    def of(cls, leaves: Sequence[bytes]) -> Self:
        """The tree over these leaf hashes."""
        tree = cls()
        for leaf in leaves:
            tree.add(leaf)
        return tree

    def add(self, leaf: bytes) -> None:
        """Add the hash of a line."""
        size, peaks = self.size, self._peaks
        while size & 1:
            leaf = sha256(b"\1" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The hash over all leaves so far."""
        if not self._peaks:
            return sha256(b"").digest()
        *larger, root = self._peaks
        for peak in reversed(larger):
            root = node_hash(peak, root)
        return root

    def copy(self) -> MerkleTree:
        """A tree that grows on its own."""
        other = MerkleTree()
        other.size, other._peaks = self.size, self._peaks.copy()
        return other


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from a leaf to the root, from below; IndexError if there is no such leaf.

    PATH(m, D[n]) of RFC 6962, 2.1.1.

    >>> audit_path([b"a" * 32, b"b" * 32, b"c" * 32], 2) == [node_hash(b"a" * 32, b"b" * 32)]
    True
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    path: list[bytes] = []
    while len(leaves) > 1:
        half = 1 << (len(leaves) - 1).bit_length() - 1
        left, right = leaves[:half], leaves[half:]
        leaves, index, beside = (left, index, right) if index < half else (right, index - half, left)
        path.append(MerkleTree.of(beside).root())
    return path[::-1]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root of a tree of that size in which the path leads up from the leaf; None if it cannot (RFC 9162, 2.1.3.2).

    >>> root_from_path(b"a" * 32, 0, 1, [])
    b'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    """
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for beside in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = node_hash(beside, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, beside)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


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
    previous: SegmentBefore | None
    hashes: bytes
    finished: bool

    @classmethod
    def of_none(cls, segment: str) -> Self:
        """A segment that never began: its worker has ended before."""
        return cls(segment, 0, MerkleTree().root(), b"", None, b"", finished=True)

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
    previous: SegmentBefore | None
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
            previous=SegmentBefore(before[0], int(before[1]), before[2])
            if len(before) == len(SegmentBefore._fields)
            else None,
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


def signed_text(note: bytes, keys: Sequence[Ed25519PublicKey]) -> bytes:
    """The text of a signed note; ValueError if it is none, CheckpointError if none of the keys has signed it."""
    from cryptography.exceptions import InvalidSignature

    text, _, last = note.rpartition(b"\n\n")
    dash, name, encoded = last.decode().rstrip("\n").split(" ")
    signature = b64decode(encoded, validate=True)
    if dash != "\N{EM DASH}" or len(signature) != _KEY_ID_BYTES + _SIGNATURE_BYTES:
        raise ValueError("not a signed note")
    named = [key for key in keys if signature[:_KEY_ID_BYTES] == _key_id(name, key)]
    for key in named if name == text.split(b"\n", 1)[0].decode() else ():
        with suppress(InvalidSignature):
            key.verify(signature[_KEY_ID_BYTES:], text + b"\n")
            return text + b"\n"
    raise CheckpointError("a note is not signed by a key that was given")


def verified(note: bytes, keys: Sequence[Ed25519PublicKey]) -> Checkpoint:
    """The checkpoint in a note; ValueError if it is none, CheckpointError if none of the keys has signed it."""
    found = Checkpoint.parse(note.rpartition(b"\n\n")[0] + b"\n")
    try:
        signed_text(note, keys)
    except CheckpointError:
        raise CheckpointError(f"a checkpoint of {found.segment} is not signed by a key that was given") from None
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
