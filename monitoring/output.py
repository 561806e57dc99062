"""Files that commands write: whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.errors import ReportError


def write_text(path: Path, text: str) -> None:
    """Write the file beside its place, and put it there; ReportError if that fails."""
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ReportError(f"{path}: cannot be written ({error.strerror})") from None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write the values as JSON, likewise."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
