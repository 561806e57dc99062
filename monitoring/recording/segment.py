"""One file of the decision log while a worker writes it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self


class Segment:
    """A file whose space was allocated before anything is written into it, so that a request waits for no disk.

    What has been written is in the page cache: it survives the end of the process, however that comes.
    """

    def __init__(self, path: Path, number: int, descriptor: int, size: int) -> None:
        self.path = path
        self.number = number
        self.used = 0
        self._descriptor = descriptor
        self._size = size

    @classmethod
    def allocate(cls, path: Path, number: int, size: int, header: bytes) -> Self:
        """A new segment, locked, with its header; OSError, and nothing left behind, if there is no room for it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # who looks whether it is held has it for a moment only
            os.posix_fallocate(descriptor, 0, size)
            segment = cls(path, number, descriptor, size)
            segment.write(header)
        except OSError:
            path.unlink()
            os.close(descriptor)
            raise
        return segment

    def fits(self, lines: bytes) -> bool:
        """Whether there is allocated room for the lines."""
        return self.used + len(lines) <= self._size

    def write(self, lines: bytes) -> None:
        """Append the lines whole; OSError if that fails."""
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
