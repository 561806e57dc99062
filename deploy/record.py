"""Results as small files: what was measured, when, and by which command."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.output import write_json


def write_record(path: Path, command: str, results: Mapping[str, Any]) -> None:
    """Write results as JSON with the day and the command that made them."""
    record = {"date": datetime.now(UTC).date().isoformat(), "command": command, **results}
    write_json(path, record, indent=2, parents=True)
