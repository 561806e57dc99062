"""Read the command line of every package, run the command, and turn its end into an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from jobs.errors import ProjectError
from jobs.progress import until_stopped

PATH = click.Path(path_type=Path)
"""Type of an option that names a file or folder."""

_WRONG_USAGE = 2


def moment(text: str) -> datetime:
    """Return the time that an option gives, as RFC 3339 or a date; UTC where no zone is given.

    >>> moment("2026-01-31").isoformat()
    '2026-01-31T00:00:00+00:00'
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text}: not a time, such as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


class Command(click.Command):
    """A command whose repeatable options also take several values: `--peer a b` means `--peer a --peer b`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        # click 8 gives an option a fixed number of values, so the name is repeated before each value.
        options = [option for option in self.params if isinstance(option, click.Option) and option.multiple]
        repeatable = {name for option in options for name in option.opts}
        return super().parse_args(ctx, [*_repeated(args, repeatable)])


class CommandGroup(click.Group):
    """A group that lists its commands in the order in which they were declared."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **kwargs})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - what click calls
        """Return the names in the order of --help; click would sort them."""
        return list(self.commands)


def run_command(command: click.Command, arguments: Sequence[str] | None, *, program: str, at_once: bool = False) -> int:
    """Run a command line and return its exit code: that of the command, 1 for a ProjectError, 2 for wrong usage.

    An error is one line on standard error. SIGINT or SIGTERM stops the command at its next safe place
    (`until_stopped`). With `at_once` it stops anywhere, and the exit code is 130.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)

    def invoke() -> int:
        return _exit_code(command, words, program)

    return _until_interrupted(invoke) if at_once else until_stopped(invoke)


def say(lines: Iterable[str]) -> None:
    """Write lines to standard output and flush it."""
    # Flushed, since a program that reads through a pipe waits for the lines.
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def table(rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """Yield the lines of a table whose columns are as wide as their widest cell; those of `right` end flush.

    >>> for line in table([("name", "rows"), ("a", "1,000"), ("long one", "")], right={1}):
    ...     print(line)
    name       rows
    a         1,000
    long one
    """
    cells = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        columns = enumerate(zip(row, widths, strict=True))
        placed = (cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in columns)
        yield "  ".join(placed).rstrip()


def _exit_code(command: click.Command, words: list[str], program: str) -> int:
    try:
        with command.make_context(program, words) as context:
            code = command.invoke(context)
    except click.exceptions.Exit as end:  # of --help
        return end.exit_code
    except click.UsageError as error:
        return _failed(error.format_message(), _WRONG_USAGE)
    except ProjectError as error:
        return _failed(str(error), 1)
    return code or 0


def _failed(reason: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(reason.split())}\n")
    return code


def _until_interrupted(work: Callable[[], int]) -> int:
    # SIGTERM alone would run no `finally`: servers that the command has started would stay.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)


def _repeated(words: Sequence[str], repeatable: set[str]) -> Iterator[str]:
    """Yield the words, with the name of a repeatable option before each of its values."""
    name, values = "", 0
    for word in words:
        if word.startswith("-"):
            name, values = (word if word in repeatable else ""), 0
        elif name:
            if values:
                yield name
            values += 1
        yield word
