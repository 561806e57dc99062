"""`make help` shows every documented target in one group, and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "Makefile", ROOT / "deploy" / "targets.mk", ROOT / "docs" / "targets.mk"]
TEXT = "\n".join(file.read_text() for file in FILES)


def groups() -> list[tuple[str, list[str]]]:
    """The headings of `make help`, each with its targets."""
    # below another make, such as that of `make test`, it would say which folder it enters
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")]
    return [(heading, [line.split()[0] for line in lines]) for heading, *lines in blocks]


def test_every_documented_target_is_in_exactly_one_group() -> None:
    documented = re.findall(r"^([a-z-]+):.*## ", TEXT, flags=re.MULTILINE)
    assert Counter(target for _, targets in groups() for target in targets) == Counter(set(documented))


def test_no_group_is_empty_or_named_twice() -> None:
    headings = [heading for heading, targets in groups() if targets]
    assert headings == re.findall(r"^##@ (.+)$", TEXT, flags=re.MULTILINE)
    assert len(set(headings)) == len(headings)


def test_all_targets_but_steps_of_others_are_documented() -> None:
    named = {name for line in re.findall(r"^\.PHONY: (.+)$", TEXT, flags=re.MULTILINE) for name in line.split()}
    documented = set(re.findall(r"^([a-z-]+):.*## ", TEXT, flags=re.MULTILINE))
    assert named - documented == {"visible", "lock-files"}
    assert documented - named == set()
