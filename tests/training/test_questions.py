"""Open questions of a portfolio file, and the commands that refuse them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.errors import SettingsError
from jobs.settings import open_questions, refuse_open_questions
from tests.features.examples import ROOT
from training.cli import main

PORTFOLIO = """name: small
outcome: {column: bad, bad: ["1"], good: ["0"]}
columns:
  age: {kind: count}
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# ? a\nx: 1\n", (1,)),
        ("x: 1  # ? a\n  # ? b\n", (1, 2)),
        ("#? a\nx: 1 #? b\n", (1, 2)),
        ("# a ? question\nx: 1 # why?\n", ()),
        ("x: \"# ? a\"\ny: '# ? b'\n", ()),
        ("x: |\n  # ? a\ny: 1  # ? b\n", (3,)),
        ("x: a#? b\n", ()),
        ('x: "a\n  # ? b"  # ? c\n', (2,)),
    ],
)
def test_questions_are_comments(text: str, lines: tuple[int, ...]) -> None:
    assert open_questions(text) == lines


@pytest.mark.parametrize("command", ["run", "experiments", "tune"])
def test_nothing_is_trained_while_a_question_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "portfolio.yaml").write_text(f"{PORTFOLIO}  # ? years: is it known\n  years: {{kind: count}}  # ? so\n")
    assert main([command, "--portfolio", str(tmp_path), "--data", str(tmp_path)]) == 1
    said = f"{tmp_path}/portfolio.yaml: 2 open questions, the first in line 5: answer each and remove its comment"
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absent: cannot be read"):
        refuse_open_questions(tmp_path / "absent")


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/portfolios/*/portfolio.yaml")), ids=lambda f: f.parent.name)
def test_the_portfolios_of_the_project_ask_nothing(tmp_path: Path, file: Path) -> None:
    refuse_open_questions(file)
    shutil.copy(file, tmp_path)
    with (tmp_path / "portfolio.yaml").open("a") as added:
        added.write("# ? a\n")
    with pytest.raises(SettingsError, match="1 open question, the first in line"):
        refuse_open_questions(tmp_path / "portfolio.yaml")
