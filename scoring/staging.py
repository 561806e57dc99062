"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scoring.errors import OutputError


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A scratch folder beside `output` that becomes `output` if the block succeeds and vanishes if it does not.

    OutputError if `output` exists already, unless it is an empty folder, or cannot be written; an OSError of the block
    is one of writing.
    """
    target = output.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{output}: exists already")
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        with _writing(output):
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with _writing(output):
                yield scratch
                scratch.chmod(0o755)
                scratch.replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        _remove(made)
        raise


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({_reason(error)})") from None


def _reason(error: OSError) -> str:
    """What the system says; Arrow gives its own words for it."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _remove(folders: list[Path]) -> None:
    """Remove the folders, the innermost first, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
