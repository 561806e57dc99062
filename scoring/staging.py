"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A scratch folder beside `output` that becomes `output` if the block succeeds and vanishes if it does not.

    OutputError if `output` exists already, unless it is an empty folder, or cannot be written.
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
            yield scratch
            with _writing(output):
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
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from None


def _remove(folders: list[Path]) -> None:
    """Remove the folders, the innermost first, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
