"""The record of a rehearsal as a table in docs/how-to/kubernetes.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.output import write_text

_MARKED = re.compile(r"(?<=<!-- rehearsal -->\n).*?(?=<!-- /rehearsal -->)", re.DOTALL)
_ANSWERED = "200"


def write_table(document: Path, record: Mapping[str, Any]) -> None:
    """Replace what is between the marks of the document."""
    text = document.read_text(encoding="utf-8")
    write_text(document, _MARKED.sub(lambda _: table(record), text))


def table(record: Mapping[str, Any]) -> str:
    """A row for each act under load: how many requests were answered, which were not, and what else there is to say."""
    rows = [f"Kubernetes {record['kubernetes']}, {record['date']}, `{record['command']}`.", ""]
    rows += ["| act | answered | not answered | |", "|---|---|---|---|"]
    for name, act in record.items():
        if isinstance(act, dict) and "requests" in act:
            rows.append(_row(name, act))
    return "\n".join(rows) + "\n"


def _row(name: str, act: Mapping[str, Any]) -> str:
    failed = [f"{count} {result}" for result, count in act["requests"].items() if result != _ANSWERED]
    said = [
        f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in act.items() if key not in {"requests", "said"}
    ]
    return f"| {name} | {act['requests'][_ANSWERED]:,} | {', '.join(failed) or 'none'} | {'; '.join(said)} |"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
