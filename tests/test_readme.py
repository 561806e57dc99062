"""What the README and the pages of the documentation show is run, or at least understood."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from decision_log.cli import COMMANDS as LOG_COMMANDS
from jobs.commandline import CommandGroup
from monitoring.cli import commands as monitoring_commands
from scoring.cli import commands as scoring_commands
from serving.schemas import Decision
from tests.server import Server
from training.cli import commands as training_commands

ROOT = Path(__file__).resolve().parent.parent
README, TUTORIAL, SERVE = (
    ROOT / name for name in ("README.md", "docs/tutorial/first-model.md", "docs/how-to/serve.md")
)
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://127.0.0.1:3000"
SCORING = CommandGroup(commands=scoring_commands.commands | {one.name: one for one in LOG_COMMANDS})
"""What `scoring/__main__.py` composes."""
COMMANDS = {"monitoring": monitoring_commands, "scoring": SCORING, "training": training_commands}
MADE = ("data/", "mlruns/", "build/", "application_", "training/synthesis")
"""Beginnings of paths that only a command makes."""
MEDIA_TYPES = ("application/", "text/")
"""Beginnings of what looks like a path."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Page and text of every command line that stands in code, without its comment."""
    for page in PAGES:
        text = page.read_text()
        lines = re.findall(r"^    ([^\n]*)", text, flags=re.MULTILINE)
        lines += [line for block in blocks(page, "(?:text|sh)") for line in "".join(block).splitlines()]
        for line in lines:
            command = re.split(r"\s+#|\s+[>|]\s", re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line.strip()))[0]
            if re.match(r"(?:\.venv/bin/|\(cd \S+ && \.venv/bin/)?(?:python -m|make) ", command):
                yield page.relative_to(ROOT).as_posix(), command


SHOWN = sorted(set(commands()))
MODULES = [(page, text) for page, text in SHOWN if re.search(r"-m (?:monitoring|scoring|training) ", text)]


@pytest.mark.parametrize("command", [*blocks(README, "sh"), *blocks(TUTORIAL, "sh")])
def test_shell_examples_answer_with_a_decision(server: Server, command: str) -> None:
    answer = subprocess.run(
        command.replace(ADDRESS, server.url), shell=True, check=True, capture_output=True, text=True
    )
    assert Decision.model_validate_json(answer.stdout).client_id == "7"


@pytest.mark.parametrize("command", blocks(SERVE, "sh"))
def test_shell_examples_of_tables_answer_with_one(server: Server, command: str) -> None:
    done = subprocess.run(command.replace(ADDRESS, server.url), shell=True, check=True, capture_output=True, text=True)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(row["client_id"], row["status"]) for row in rows] == [("7", "scored"), ("8", "rejected")]


def test_the_answer_that_is_shown_is_of_the_declared_shape() -> None:
    (shown,) = blocks(README, "json")
    # A model that reads no histories answers without a word of them.
    assert [*json.loads(shown), "history"] == list(Decision.model_fields)
    assert Decision.model_validate_json(shown).decision == "approve"


@pytest.mark.parametrize("code", blocks(SERVE, "python"))
def test_python_examples_run(server: Server, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code.replace(ADDRESS, server.url), SERVE.name, "exec"), {})  # noqa: S102
    assert re.search(r"probability|Rejection|rejected", capsys.readouterr().out)


def test_every_make_target_exists() -> None:
    files = [ROOT / "Makefile", *ROOT.glob("*/targets.mk")]
    targets = {name for file in files for name in re.findall(r"^([a-z-]+):", file.read_text(), flags=re.MULTILINE)}
    shown = {word for _, text in SHOWN if text.startswith("make") for word in text.split()[1:] if "=" not in word}
    assert shown >= {"demo", "serve", "test", "check", "bench", "fuzz", "lock", "docs"}
    assert shown <= targets


def understood(command: click.Command, words: list[str]) -> dict[str, object]:
    """The options of a command line."""
    if isinstance(command, click.Group):
        below = command.get_command(click.Context(command), words[0])
        assert below is not None, words
        return understood(below, words[1:])
    return command.make_context(command.name, words).params


@pytest.mark.parametrize(("page", "command"), MODULES)
def test_commands_are_understood(page: str, command: str) -> None:
    bare = re.sub(r"\[(--[^\]]*)\]", r"\1", command.strip("()"))
    words = shlex.split(bare.partition(" -m ")[2])
    assert understood(COMMANDS[words[0]], words[1:])


def test_the_readme_shows_the_main_commands() -> None:
    shown = {text.split(" -m ")[1].split(" --")[0] for page, text in MODULES if page == "README.md"}
    assert shown == {"training init", "training run", "scoring batch"}


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.read_bytes()) <= 8_192


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`([a-z_]{2,}(?:/[\w.-]+)+/?)`", page.read_text()))
    assert [
        path for path in sorted(named) if not path.startswith((*MADE, *MEDIA_TYPES)) and not (ROOT / path).exists()
    ] == []
