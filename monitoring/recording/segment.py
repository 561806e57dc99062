"""One file of the decision log while a worker writes it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

OWNER_ONLY = 0o600
"""Mode of every file that holds applicants' figures, whatever the umask is."""
_BLOCK = 1 << 20


class Segment:
    """A file whose space was allocated before anything is written into it, so that a request waits for no disk.

    What has been written is in the page cache: it survives the end of the process, however that comes.

    Attributes
    ----------
    used : bytes, the header's included
    lines : how many were written after the header
    """

    def __init__(self, path: Path, number: int, descriptor: int, size: int) -> None:
        self.path = path
        self.number = number
        self.used = 0
        self.lines = 0
        self._descriptor = descriptor
        self._size = size
        self._made = os.fstat(descriptor)

    @classmethod
    def allocate(cls, path: Path, number: int, size: int, header: bytes) -> Self:
        """A new segment, locked, with its header; OSError, and nothing left behind, if there is no room for it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        try:
            os.fchmod(descriptor, OWNER_ONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # who looks whether it is held has it for a moment only
            os.posix_fallocate(descriptor, 0, size)
            segment = cls(path, number, descriptor, size)
            segment._put(header)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return segment

    def fits(self, lines: bytes) -> bool:
        """Whether there is allocated room for the lines."""
        return self.used + len(lines) <= self._size

    def write(self, lines: bytes) -> bool:
        """Append the lines whole; OSError if that fails. False, and they are taken back, if the file is not there."""
        before = self.used
        self._put(lines)
        if not self.intact():
            self.used = before
            os.ftruncate(self._descriptor, before)
            return False
        self.lines += lines.count(b"\n")
        return True

    def intact(self) -> bool:
        """Whether the file is still in its place, with all that was written into it."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return os.path.samestat(found, self._made) and found.st_size >= max(self.used, self._size)

    def missing(self) -> int:
        """How many of the lines are no longer in its place."""
        with suppress(OSError):
            if os.path.samestat(os.lstat(self.path), self._made):
                return max(0, self.lines - max(0, self._whole_lines() - 1))
        return self.lines

    def _whole_lines(self) -> int:
        size, at, found = os.fstat(self._descriptor).st_size, 0, 0
        while at < min(size, self.used):
            block = os.pread(self._descriptor, min(_BLOCK, self.used - at), at)
            if not block:
                break
            at, found = at + len(block), found + block.count(b"\n")
        return found

    def _put(self, lines: bytes) -> None:
        rest = memoryview(lines)
        at = self.used
        while rest:
            written = os.pwrite(self._descriptor, rest, at)
            rest, at = rest[written:], at + written
        self.used = at

    def finish(self) -> None:
        """Cut off what was not used and let go of the file."""
        try:
            with suppress(OSError):  # then the unused end stays, which readers do not mind
                os.ftruncate(self._descriptor, self.used)
        finally:
            os.close(self._descriptor)
