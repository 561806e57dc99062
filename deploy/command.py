"""Running the tools that do the work: bentoml, buildah, podman, kubectl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.errors import DeployError

_LAST_LINES = 5


def run(*command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command writes to standard output; DeployError with its last lines if it fails."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise DeployError(f"{words[0]}: not installed")
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
        raise DeployError(f"{' '.join(words[:3])} failed: {last}")
    return done.stdout


def read_json(*command: str | Path) -> Any:
    """What a command writes, parsed."""
    return json.loads(run(*command))
