"""Every example in a docstring is run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.server import ROOT

CONFIGURED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
ELSEWHERE = {"benchmarks/peers"}
"""Folders whose modules import what other environments have."""


def with_examples() -> set[str]:
    """The modules that hold an example, as paths: all of the checkout but the tests."""
    folders = {file.parent for file in ROOT.glob("[!.]*/*.py")} - {ROOT / "tests"} | {ROOT / "client", ROOT / "configs"}
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    found = {file.relative_to(ROOT).as_posix() for file in files if _has_example(file)}
    return {path for path in found if not any(path.startswith(f"{folder}/") for folder in ELSEWHERE)}


def _has_example(file: Path) -> bool:
    return re.search(r"^ *>>> ", file.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


@pytest.mark.slow
def test_every_module_with_an_example_is_collected() -> None:
    paths = [path for path in CONFIGURED if path != "tests"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = set(re.findall(r"^(\S+\.py)::", listed, flags=re.MULTILINE))
    assert {path for path in collected if "/tests/" not in path} == with_examples()
    assert "scoring/policy.py" in collected
