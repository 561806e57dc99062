"""The page of all commands, made from what each of them says of itself under --help."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

_HEAD = """# Commands

This page is made from `--help`. A command that fails writes one line to standard error. Every command ends with one of
these exit codes:

| code | meaning |
|---|---|
| 0 | done |
| 1 | an error |
| 2 | wrong usage: an option or argument that the command does not have, or cannot read |
| 3 | done, with a finding: a missed gate, an alarm, a broken split, records that differ, callers that break |
| 128 + n | signal n ended it, such as 130 for SIGINT |
"""
_ASIDE = {"docs", "tests", "examples"}


def commands_page(root: Path) -> str:
    """Every command of every package, with its usage and options."""
    parts = [_HEAD]
    for module in _modules(root):
        parts += [f"## python -m {module}\n\n{_block(help_text(module))}"]
        parts += [f"### {module} {' '.join(words)}\n\n{_block(help_text(module, *words))}" for words in _below(module)]
    return "\n\n".join(parts) + "\n"


def help_text(module: str, *words: str) -> str:
    """What `python -m module words --help` prints."""
    printed = io.StringIO()
    arguments = [module, *words, "--help"]
    with (
        patch.object(sys, "argv", arguments),
        patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    return printed.getvalue()


def actions(text: str) -> list[str]:
    """The commands below a command, by its help.

    >>> actions("Options:\\n  --help  Show this.\\n\\nCommands:\\n  list  What is there.\\n  make  Make it.\\n")
    ['list', 'make']
    """
    section = re.search(r"^Commands:\n((?:  .*\n)+)", text, flags=re.MULTILINE)
    return re.findall(r"^  (\w[\w-]*)", section[1], flags=re.MULTILINE) if section else []


def _below(module: str, *words: str) -> Iterator[tuple[str, ...]]:
    for action in actions(help_text(module, *words)):
        yield (*words, action)
        yield from _below(module, *words, action)


def _modules(root: Path) -> list[str]:
    files = [*root.glob("[!.]*/__main__.py"), *root.glob("deploy/*/__main__.py")]
    names = [".".join(file.parent.relative_to(root).parts) for file in files]
    first = ("training", "features", "scoring", "monitoring")
    return sorted(set(names) - _ASIDE, key=lambda name: (name not in first, "." in name, name))


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
