"""Environments are made once, and whole or not at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.environment import environment
from benchmarks.errors import BenchmarkError


def requirements(folder: Path, text: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Of the environments that these tests make: each takes seconds."""
    return tmp_path_factory.mktemp("environments")


def test_an_environment_is_apart_and_made_once(tmp_path, cache):
    wanted = requirements(tmp_path, "# one\n")
    made = environment(wanted, cache)
    code = "import importlib.util, json, sys; print(json.dumps([sys.prefix, bool(importlib.util.find_spec('numpy'))]))"
    seen = subprocess.run([made.program("python"), "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(seen.stdout) == [str(made.folder), False]
    (made.folder / "mark").touch()
    assert environment(wanted, cache) == made
    assert (made.folder / "mark").exists()


def test_other_requirements_need_another_environment(tmp_path, cache):
    first = environment(requirements(tmp_path, "# one\n"), cache)
    second = environment(requirements(tmp_path, "# two\n"), cache)
    assert first.folder != second.folder


def test_requirements_that_cannot_be_installed_leave_no_environment(tmp_path):
    wanted = requirements(tmp_path, f"{tmp_path}/absent-1.0-py3-none-any.whl\n")
    for _ in range(2):
        with pytest.raises(BenchmarkError, match=r"pip install --quiet failed|-m pip install failed"):
            environment(wanted, tmp_path / "cache")
