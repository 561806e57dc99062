"""Results as small files: what was measured, when, and by which command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.output import write_json


def write_record(path: Path, command: str, results: Mapping[str, Any]) -> None:
    """Write results as JSON with the day and the command that made them."""
    record = {"date": datetime.now(UTC).date().isoformat(), "command": command, **results}
    write_json(path, record, indent=2, parents=True)


def add_result(path: Path, command: str, name: str, result: Mapping[str, Any]) -> None:
    """Put one result, with its day, among those that a file holds; one of the same name is replaced."""
    kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    dated = {"measured": datetime.now(UTC).date().isoformat(), **result}
    write_record(path, command, {"results": {**kept, name: dated}})
