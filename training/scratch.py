"""What a killed command leaves behind, and how the next one tells.

A command holds a lock on a folder of its own, in which all of its temporary files are. The lock ends with the process,
however that ends: `kill -9` and a power cut included. So a folder that nobody holds is left over, and a run in MLflow
that names such a folder runs no longer.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "credit-scoring-training-"
_held: list[str] = []


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for all temporary files of this process, gone afterwards; those of killed ones are removed first."""
    place, before = Path(tempfile.gettempdir()), tempfile.tempdir
    _remove_left_over(place)
    new = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    lock = os.open(new, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = new.rename(place / new.name.removeprefix("."))  # under this name only while it is held
        tempfile.tempdir = str(folder)
        _held.append(f"{_machine()} {folder}")
        try:
            yield folder
        finally:
            _held.pop()
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def holder() -> str | None:
    """A word for this process that `is_gone` understands; None outside a command."""
    return _held[-1] if _held else None


def is_gone(holder: str) -> bool:
    """Whether the process that `holder` names has ended; False for another machine's, of which nothing is known."""
    machine = f"{_machine()} "
    return holder.startswith(machine) and not _is_held(Path(holder.removeprefix(machine)))


def _remove_left_over(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if folder.lstat().st_uid == os.getuid() and folder.is_dir() and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _machine() -> str:
    """Host and view of the file system: containers may share a host's name, and see other folders."""
    try:
        view = str(Path("/proc/self/ns/mnt").readlink())
    except OSError:
        view = "mnt"
    return f"{socket.gethostname()} {view}"
