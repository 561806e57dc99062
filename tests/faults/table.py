"""The accounts of faults as a table of docs/explanation/faults.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MARKED = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- /faults -->)", re.DOTALL)
_HEADER = (
    "fault",
    "answered",
    "not answered",
    "wrong scores",
    "answered, not in the log",
    "last failure after",
    "measured",
)
_ALWAYS = ("measured", "requests", "wrong", "not_in_the_log", "recovered_after")


def write_table(document: Path, record: Mapping[str, Any]) -> None:
    """Replace what is between the marks of the document."""
    text = document.read_text(encoding="utf-8")
    document.write_text(_MARKED.sub(lambda _: table(record), text), encoding="utf-8")


def table(record: Mapping[str, Any]) -> str:
    """A row for each fault."""
    rows = [f"`{record['command']}`, two cores.", ""]
    rows += [f"| {' | '.join(_HEADER)} | |", "|---" * (len(_HEADER) + 1) + "|"]
    rows += [_row(name, account) for name, account in record["faults"].items()]
    return "\n".join(rows) + "\n"


def _row(name: str, account: Mapping[str, Any]) -> str:
    requests = account["requests"]
    failed = ", ".join(f"{count:,} {result}" for result, count in requests.items() if result != "200")
    after = f"{account['recovered_after']:g} s" if failed else "-"
    said = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in account.items() if key not in _ALWAYS)
    found = (failed or "none", account["wrong"], account["not_in_the_log"], after)
    cells = [name, f"{requests.get('200', 0):,}", *found, account["measured"]]
    return f"| {' | '.join(map(str, cells))} | {said} |"
