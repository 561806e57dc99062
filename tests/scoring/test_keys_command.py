"""`python -m scoring keys`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scoring.cli import main
from scoring.keys import KEYS_VARIABLE, KeyFile, Scope


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEYS_VARIABLE, str(tmp_path / "keys.yaml"))
    return tmp_path / "keys.yaml"


def create(name: str, *options: str) -> int:
    return main(["keys", "create", "--name", name, "--scope", "predict", *options])


def test_create_prints_the_key_once_and_nothing_else(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create("front", "--scope", "admin", "--scope", "admin", "--requests-per-second", "2.5") == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"csk_[0-9a-f]{12}_[0-9a-f]{64}\n", said.out)
    (key,) = KeyFile.read(path).keys
    assert said.err == f"key {key.id} for front; it is not shown again\n"
    assert (key.name, key.scopes, key.requests_per_second) == ("front", (Scope.PREDICT, Scope.ADMIN), 2.5)
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed == f"{key.id}  {key.created:%Y-%m-%d}  front  predict,admin  2.5/s\n"


def test_revoke_says_which(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create("front")
    (key,) = KeyFile.read(path).keys
    capsys.readouterr()
    assert main(["keys", "revoke", "front"]) == 0
    assert capsys.readouterr().out == f"key {key.id} of front is revoked\n"
    assert main(["keys", "revoke", "front"]) == 1
    assert capsys.readouterr().err == f"error: {path}: there is no key with this id or name\n"


def test_the_option_names_another_file(path: Path, tmp_path: Path) -> None:
    assert create("front", "--file", str(tmp_path / "other.yaml")) == 0
    assert not path.exists()
    assert (tmp_path / "other.yaml").exists()


def test_without_a_file_nothing_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    assert create("front") == 1
    said = capsys.readouterr()
    expected = "error: --file or the environment variable CREDIT_SCORING_KEYS must name the file of keys\n"
    assert (said.out, said.err) == ("", expected)


@pytest.mark.parametrize("action", [["list"], ["revoke", "front"]])
def test_a_file_that_is_not_there_is_named(path: Path, capsys: pytest.CaptureFixture[str], action: list[str]) -> None:
    assert main(["keys", *action]) == 1
    assert capsys.readouterr().err == f"error: {path}: cannot be read (No such file or directory)\n"
    assert not path.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--name", "", "--scope", "predict"],
        ["--name", "two words", "--scope", "predict"],
        ["--name", "front", "--scope", "root"],
        ["--name", "front"],
        ["--name", "front", "--scope", "predict", "--requests-per-second", "0"],
        ["--name", "front", "--scope", "predict", "--requests-per-second", "inf"],
    ],
)
def test_wrong_usage_writes_nothing(path: Path, options: list[str]) -> None:
    assert main(["keys", "create", *options]) == 2
    assert not path.exists()


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("create", {"--name", "--scope", "--requests-per-second", "--file", "--help"}),
        ("list", {"--file", "--help"}),
        ("revoke", {"--file", "--help"}),
    ],
)
def test_help_lists_every_option(action: str, options: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", action, "--help"]) == 0
    assert set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) >= options


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "command."),
        (["keys"], "command."),
        (["keys", "create"], "option '--name'."),
        (["keys", "create", "--name", "a"], "option '--scope'. Choose from: predict, explain, override, admin"),
        (["keys", "revoke"], "argument 'KEY'."),
    ],
)
def test_what_is_required_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str], missing: str) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: Missing {missing}\n"


def test_revoke_takes_an_id_and_list_shows_a_key_without_a_rate(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create("front")
    (key,) = KeyFile.read(path).keys
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out == f"{key.id}  {key.created:%Y-%m-%d}  front  predict\n"
    assert key.created.microsecond == 0
    assert main(["keys", "revoke", key.id]) == 0
    assert KeyFile.read(path).keys == ()
