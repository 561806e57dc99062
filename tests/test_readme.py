"""What the README shows is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from monitoring.cli import _parser as monitoring_parser
from serving import Decision
from tests.server import Server
from training.cli import _parser as training_parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:3000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The indented command lines, without their comments."""
    lines = re.findall(r"^    ((?:make|\.venv/bin)[^\n#]*)", README, flags=re.MULTILINE)
    return [line.strip() for line in lines]


@pytest.mark.parametrize("command", blocks("sh"))
def test_shell_examples_answer_with_a_decision(server: Server, command: str) -> None:
    answer = subprocess.run(
        command.replace(ADDRESS, server.url), shell=True, check=True, capture_output=True, text=True
    )
    assert Decision.model_validate_json(answer.stdout).client_id == "7"


def test_the_answer_that_is_shown_is_of_the_declared_shape() -> None:
    (shown,) = blocks("json")
    assert list(json.loads(shown)) == list(Decision.model_fields)
    assert Decision.model_validate_json(shown).decision == "approve"


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(server: Server, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code.replace(ADDRESS, server.url), "README.md", "exec"), {})  # noqa: S102
    assert re.search(r"probability|Rejection", capsys.readouterr().out)


def test_every_make_target_exists() -> None:
    files = (ROOT / "Makefile", ROOT / "deploy" / "targets.mk")
    targets = {name for file in files for name in re.findall(r"^([a-z-]+):", file.read_text(), flags=re.MULTILINE)}
    shown = {command.split()[1] for command in commands() if command.startswith("make")}
    assert shown >= {"demo", "serve", "test", "check", "bench", "fuzz", "lock"}
    assert shown <= targets


@pytest.mark.parametrize("command", [c for c in commands() if "-m training" in c])
def test_training_commands_are_understood(command: str) -> None:
    words = shlex.split(command)
    options = training_parser().parse_args(words[words.index("training") + 1 :])
    known = ("run", "register", "experiments", "tune", "list", "report", "promote", "rollback", "import", "synthesize")
    assert options.command in known


@pytest.mark.parametrize("command", [c for c in commands() if "-m monitoring" in c])
def test_monitoring_commands_are_understood(command: str) -> None:
    words = shlex.split(command)
    options = monitoring_parser().parse_args(words[words.index("monitoring") + 1 :])
    assert callable(options.run)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+(?:/[\w.]+)+)`", README))))
def test_every_file_that_is_named_exists(path: str) -> None:
    if not path.startswith(("data/", "mlruns/")):
        assert (ROOT / path).exists()
