"""Known vulnerabilities of everything that the project installs, by pip-audit over its locks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.errors import DeployError
from deploy.settings import ROOT

LOCKS = tuple(sorted((ROOT / "requirements").glob("*.txt")))
"""Of the service, the offline image, training, MLflow's server, and the tools that build and check."""


def audit(locks: Sequence[Path], tools: Path) -> list[str]:
    """What was found, a line for each lock; DeployError, after all of them, if one holds what `judged` refuses."""
    found, refused = [], []
    for lock in locks:
        try:
            found.append(f"{lock.name}: {_audited(lock, tools)}")
        except DeployError as error:
            refused.append(f"{lock.name}: {error}")
    if refused:
        raise DeployError("; ".join(refused))
    return found


def _audited(lock: Path, tools: Path) -> str:
    command = [str(tools / "pip-audit"), "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    options = ["--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not done.stdout:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DeployError(f"pip-audit failed: {said[-1]}")
    return judged(json.loads(done.stdout)["dependencies"])


def judged(packages: list[dict[str, Any]]) -> str:
    """The line for pip-audit's list of packages. One that it has no data of is skipped there, and is not clean.

    DeployError if a package has a known vulnerability, or if none could be looked up.
    """
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    looked_up = [one for one in packages if "skip_reason" not in one]
    vulnerable = {one["name"]: [known["id"] for known in one["vulns"]] for one in looked_up if one["vulns"]}
    if vulnerable:
        raise DeployError("; ".join(f"{name}: {', '.join(ids)}" for name, ids in sorted(vulnerable.items())))
    if not looked_up:
        raise DeployError(f"not audited: the data of none of {len(skipped)} packages could be reached")
    return f"{len(looked_up)} packages without known vulnerabilities; no data of {len(skipped)}: {', '.join(skipped)}"
