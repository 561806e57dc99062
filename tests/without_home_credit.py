"""What a run leaves out once Home Credit's portfolio is deleted: the tests that are written with its columns.

A lender deletes `configs/portfolios/home_credit` when it is of no more use. The rules of every portfolio
(`tests/portfolios`) and all tests that know no column stay.
"""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parent
HERE = (TESTS.parent / "configs" / "portfolios" / "home_credit").is_dir()
_NEEDED = ("tests.home_credit", "configs.portfolios.home_credit")
FIXTURES = {"delivered", "generated", "histories", "many", "server", "settings", "stored"}
"""Fixtures that hold Home Credit's generated applications, or a model of them."""


def left_out() -> list[str]:
    """The files and folders of tests that cannot be imported without the portfolio; none while it is here."""
    if HERE:
        return []
    trees = {file: _imported(file) for file in TESTS.rglob("*.py") if file != TESTS / "conftest.py"}
    names = {file: ".".join(("tests", *file.relative_to(TESTS).with_suffix("").parts)) for file in trees}
    lost = {file for file, name in names.items() if name in _NEEDED}
    while more := {file for file, found in trees.items() if file not in lost and _needs(found, lost, names)}:
        lost |= more
    # A conftest cannot be left out alone: its folder goes with it.
    return [str(file.parent if file.name == "conftest.py" else file) for file in sorted(lost)]


def _needs(found: set[str], lost: set[Path], names: dict[Path, str]) -> bool:
    return any(name.startswith(_NEEDED) for name in found) or bool(found & {names[file] for file in lost})


def _imported(file: Path) -> set[str]:
    """The modules that a file imports when it is loaded, those inside functions aside."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
