"""The page of all settings: the files of configs/ as they are delivered, comments included."""

from __future__ import annotations

from pathlib import Path

_HEAD = """# Configuration

Settings are YAML files below `configs/`. An unknown name, a wrong type or a value out of range is refused at the start,
in one line that names it. Another file takes the place of a delivered one by an option or a variable of the
environment. Secrets, addresses and paths are in the environment only; [its variables](environment.md) have a page.

This page is made from the files: what it shows is what is delivered.
"""


def configuration_page(root: Path) -> str:
    """Every settings file with its comments, which say what each value means."""
    files = sorted((root / "configs").rglob("*.yaml"))
    parts = [f"## {_name(root, file)}\n\n```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```" for file in files]
    return "\n\n".join([_HEAD, *parts]) + "\n"


def _name(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()
