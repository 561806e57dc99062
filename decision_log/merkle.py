"""Merkle trees over the lines of a segment, hashed as RFC 6962 says; a tree grows in O(log n) memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Self

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
