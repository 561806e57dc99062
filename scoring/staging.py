"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A scratch folder beside `output` that becomes `output` if the block succeeds and vanishes if it does not.

    OutputError if `output` exists already, unless it is an empty folder, or cannot be written beside.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists already")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from None
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.replace(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
