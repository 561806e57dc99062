"""Known vulnerabilities of what the serving image installs, by pip-audit over the lock."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from deploy.errors import DeployError
from deploy.settings import ROOT

LOCK = ROOT / "requirements" / "serving.txt"


def audit(lock: Path, tools: Path) -> str:
    """What was found, in a line; DeployError if a package has a known vulnerability, or if none could be looked up."""
    command = [str(tools / "pip-audit"), "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    options = ["--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise DeployError(f"pip-audit failed: {done.stderr.strip().splitlines()[-1]}")
    return judged(json.loads(done.stdout)["dependencies"])


def judged(packages: list[dict[str, Any]]) -> str:
    """The line for pip-audit's list of packages. One that it has no data of is skipped there, and is not clean."""
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    looked_up = [one for one in packages if "skip_reason" not in one]
    vulnerable = {one["name"]: [known["id"] for known in one["vulns"]] for one in looked_up if one["vulns"]}
    if vulnerable:
        raise DeployError("; ".join(f"{name}: {', '.join(ids)}" for name, ids in sorted(vulnerable.items())))
    if not looked_up:
        raise DeployError(f"not audited: the data of none of {len(skipped)} packages could be reached")
    return f"{len(looked_up)} packages without known vulnerabilities; no data of {len(skipped)}: {', '.join(skipped)}"
