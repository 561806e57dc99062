"""The workers of a service that records."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.server import Server


def workers(server: Server) -> list[int]:
    """The processes of the service that have an open segment of the decision log."""
    found = subprocess.run(["pgrep", "-P", str(server.pid)], check=False, capture_output=True, text=True).stdout
    return [pid for pid in map(int, found.split()) if _writes(pid)]


def _writes(pid: int) -> bool:
    try:
        return any(path.readlink().suffix == ".jsonl" for path in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False
