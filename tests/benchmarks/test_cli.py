"""What the commands refuse, in one line and before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cli import main


def options(folder: Path) -> list[str]:
    return ["--store", str(folder / "store"), "--output", str(folder / "results.json")]


@pytest.mark.parametrize("command", ["run", "soak"])
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, capsys, command):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "results.json"
    assert main([command, "--store", str(tmp_path / "store"), "--output", str(output)]) == 1
    assert capsys.readouterr().err == f"error: {output}: cannot be written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_settings_that_do_not_fit_are_named(tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("speed: 1\n")
    assert main(["run", "--settings", str(tmp_path / "settings.yaml"), *options(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/settings.yaml: ")
    assert "speed: Extra inputs are not permitted" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["run", "--peers", "nobody"], ["run", "--seconds", "0"], ["run", "--rounds", "0"], ["soak", "--windows", "0"]],
)
def test_words_that_make_no_sense_are_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: Invalid value for '{words[1]}': ")
