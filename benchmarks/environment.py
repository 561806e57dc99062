"""A virtual environment for every peer, made once from its requirements."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==", re.MULTILINE)
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path
    packages: dict[str, str]
    """The versions of the packages that the requirements name."""

    def program(self, name: str) -> str:
        """The path of a program that is installed in it."""
        return str(self.folder / "bin" / name)


def environment(requirements: Path, cache: Path) -> Environment:
    """The environment of a requirements file; it is made unless the cache has it."""
    identity = f"{sys.version_info[:2]} {requirements.read_text(encoding='utf-8')}"
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:12]
    if not (folder / _COMPLETE).exists():
        _make(folder, requirements)
    return Environment(folder, _versions(folder, requirements))


def _make(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--requirement", str(requirements)])
    (folder / _COMPLETE).touch()


def _versions(folder: Path, requirements: Path) -> dict[str, str]:
    listed = _run([str(folder / "bin" / "python"), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"])
    named = {_normal(name) for name in _PINNED.findall(requirements.read_text(encoding="utf-8"))}
    return {item["name"]: item["version"] for item in json.loads(listed) if _normal(item["name"]) in named}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BenchmarkError(f"{' '.join(command[:4])} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout
