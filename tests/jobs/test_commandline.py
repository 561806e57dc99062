"""How a command line is read, and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import click
import pytest

from jobs.commandline import CommandGroup, run_command, stop_if_asked
from jobs.errors import ProjectError


class RefusedError(ProjectError):
    """An error of some package."""


@click.group(cls=CommandGroup, help="What is tried here.")
def commands() -> None:
    """Hold the commands."""


@commands.command()
@click.option("--peers", multiple=True)
@click.option("--rounds", type=int, default=1)
def measure(*, peers: Sequence[str], rounds: int) -> None:
    """Measure."""
    click.echo(f"{' '.join(peers)} {rounds}")


@commands.command()
@click.argument("code", type=int)
def end(*, code: int) -> int:
    """End so."""
    return code


class JudgedError(ProjectError):
    """A verdict that has an exit code of its own."""

    exit_code = 3


@commands.command()
def judge() -> None:
    """Judge."""
    raise JudgedError("it misses a limit")


@commands.command()
def fail() -> None:
    """Fail."""
    raise RefusedError("two\n  lines")


@commands.command()
@click.argument("number", type=int)
def stop(*, number: int) -> None:
    """Be stopped."""
    signal.raise_signal(number)
    stop_if_asked()


def run(*words: str, at_once: bool = False) -> int:
    return run_command(commands, words, program="python -m tried", at_once=at_once)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--peers", "a", "b", "--rounds", "2"], "a b 2\n"),
        (["--rounds", "2", "--peers", "a", "--peers", "b", "c"], "a b c 2\n"),
        (["--peers", "a"], "a 1\n"),
        ([], " 1\n"),
    ],
)
def test_a_repeatable_option_takes_several_values(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("measure", *words) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing command."),
        (["none"], "No such command 'none'."),
        (["measure", "--rounds", "many"], "Invalid value for '--rounds': 'many' is not a valid integer."),
        (["measure", "--rounds"], "Option '--rounds' requires an argument."),
        (["measure", "a"], "Got unexpected extra argument (a)"),
        (["end"], "Missing argument 'CODE'."),
    ],
)
def test_wrong_usage_is_2_and_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert capsys.readouterr() == ("", f"error: {said}\n")


def test_a_command_ends_with_the_code_that_it_returns() -> None:
    assert [run("end", "0"), run("end", "3")] == [0, 3]


@pytest.mark.parametrize(("word", "code", "said"), [("fail", 1, "two lines"), ("judge", 3, "it misses a limit")])
def test_an_error_of_the_project_is_one_line_and_its_exit_code(
    word: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(word) == code
    assert capsys.readouterr() == ("", f"error: {said}\n")


def test_help_lists_the_commands_as_they_were_declared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: python -m tried [OPTIONS] COMMAND [ARGS]...\n\n  What is tried here.\n")
    assert [line.split()[0] for line in said.partition("Commands:\n")[2].splitlines()] == [
        "measure", "end", "judge", "fail", "stop",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_signal_ends_a_command_with_one_line(
    number: signal.Signals, at_once: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    code, said = (130, "interrupted") if at_once else (128 + number, f"stopped by {number.name}")
    assert run("stop", str(int(number)), at_once=at_once) == code
    assert capsys.readouterr() == ("", f"{said}\n")
    assert signal.getsignal(number) == before
