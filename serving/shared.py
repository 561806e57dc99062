"""The folder that the workers of one service share, for their metrics and drift counts, and no other service does.

BentoML has one for each user and empties it whenever a service starts, even one that is refused a moment later: the
metrics and counts of a service that runs already were gone until its restart.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from .listening import is_serving_command

SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which BentoML tells workers of the folder."""

_PARENT = "credit_scoring_services"
_held: list[int] = []


def keep_apart() -> None:
    """Have BentoML use a folder of this command's own, if it is one that serves."""
    if is_serving_command():
        BentoMLContainer.prometheus_multiproc_dir.set(str(_own(Path(BentoMLContainer.bentoml_home.get()))))


def hold_shared(environment: Mapping[str, str]) -> None:
    """Keep the folder, in a worker: it is needed as long as one worker lives, also one whose parent was killed."""
    folder = environment.get(SHARED_VARIABLE)
    if folder:
        _hold(Path(folder))


@cache
def _own(home: Path) -> Path:
    """A new folder, which is removed at the end of this process; those of services that have gone are removed now."""
    folder = _made(home / _PARENT)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _made(parent: Path) -> Path:
    prefix = f"{os.getpid()}-"
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(parent):
            for folder in parent.iterdir():
                if not _is_held(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            _hold(made)
    except OSError:  # a home that is read-only, as in the image, or on a file system without locks
        return Path(tempfile.mkdtemp(prefix=f"credit-scoring-{prefix}"))
    return made


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hold(folder: Path) -> None:
    """Hold a folder to the end of this process, however that comes."""
    with suppress(OSError):  # without locks nobody removes it either
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _held.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # not a folder of a service
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
