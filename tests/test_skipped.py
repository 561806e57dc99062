"""A run says at its end what it left out, and which command brings it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, unmeasured
from tests.skipped import PACKAGES, missing, summary

LEFT_OUT = """
import pytest
from tests.skipped import needs

@needs("promtool")
@pytest.mark.parametrize("one", range(3))
def test_rules(one): ...

@pytest.mark.skipif(True, reason="it needs a machine of its own: `make faults` runs it")
def test_faults(): ...

def test_all_else(): ...
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one", "two"])
def test_the_end_of_a_run_names_what_was_skipped_and_what_brings_it(tmp_path: Path, processes: list[str]) -> None:
    (tmp_path / "test_left_out.py").write_text(LEFT_OUT)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.skipped",
        "--rootdir",
        tmp_path,
        "-ra",
        *processes,
        tmp_path,
    ]
    environment = unmeasured() | {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    line, result = done.stdout.splitlines()[-2:]
    assert line == "4 tests were skipped: 3 need `apt-get install prometheus`; 1 `make faults`"
    assert "1 passed, 4 skipped" in result


def test_commands_are_counted_and_packages_are_put_together() -> None:
    reasons = [missing("promtool"), missing("initdb"), missing("promtool"), "`make faults` runs it", missing("kubectl")]
    expected = (
        "5 tests were skipped: 3 need `apt-get install postgresql prometheus`; 1 `make faults`;"
        " 1 need kubectl, see https://kubernetes.io/docs/tasks/tools"
    )
    assert summary(reasons) == expected


def test_where_nothing_was_skipped_nothing_is_said() -> None:
    assert summary([]) == ""


def test_ci_installs_what_the_tests_drive() -> None:
    installed = re.findall(r"^([a-z0-9-]+) /usr/\S+$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert set(PACKAGES.values()) - {"podman"} <= set(installed)  # podman runs images, which CI does not build


def test_every_reason_names_what_brings_it() -> None:
    reasons = [
        reason
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for reason in re.findall(r'skipif\([^"]*reason="([^"]*)"', file.read_text())
    ]
    assert reasons
    assert [reason for reason in reasons if "`" not in reason] == []
