"""Results as small files: what was measured, when, and by which command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def write_record(path: Path, command: str, results: Mapping[str, Any]) -> None:
    """Write results as JSON with the day and the command that made them."""
    record = {"date": datetime.now(UTC).date().isoformat(), "command": command, **results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
