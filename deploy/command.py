"""Running the tools that do the work: bentoml, buildah, podman, kubectl."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.errors import DeployError
from jobs.errors import JobError

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


def reported(work: Callable[[], None]) -> int:
    """The exit code of a command's work: 1 after one line on standard error if it failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped on the way out
    try:
        work()
    except (DeployError, JobError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0
