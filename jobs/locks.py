"""Locks of files and folders. The system ends them with the process that holds them, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_FILE_MODE = 0o600


def take_lock(file: int | IO[Any], *, wait: bool = True, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed; False, where `wait` is not set, if somebody else holds it.

    A shared lock may be held by several at once. OSError on a file system without locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a folder, or of a file that is made if it is not there, during the block.

    Yields whether the lock is held, which is always so where `wait` is set. OSError if `path` cannot be opened.
    """
    descriptor = _opened(path)
    try:
        yield take_lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of the folder; OSError if it is no folder, or cannot be opened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return not take_lock(descriptor, wait=False)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
