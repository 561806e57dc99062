"""The command line of every package: options, progress, the end at a signal, and the exit code.

A command that a signal ends has failed: it leaves nothing behind and says so in one line. An exception of a signal's
handler can surface anywhere: in a finalizer, where Python drops it, or in a library that holds a lock and will want it
again (https://docs.python.org/3/library/signal.html#handlers-and-exceptions). So the handler only notes the signal, and
the command stops at its own places: at each step of progress, each file of a log, each tree of a LightGBM fit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypeVar

import click

from jobs.errors import ProcessError, ProjectError

Advance = Callable[..., object]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0  # seconds from a signal until the command is stopped wherever it is; Kubernetes kills after 30

_stop_signals: list[int] = []
"""The signal that asked the command to stop, once one has."""


class _Stopped(BaseException):
    """A signal asked the command to end; no `except Exception` is to catch it."""


def until_stopped(command: Callable[[], int]) -> int:
    """Run `command` and return its exit code; 128 plus the signal's number if SIGINT or SIGTERM ends it.

    A signal stops the command at its next `stop_if_asked`, or anywhere after five seconds; its clean-up runs, and one
    line says so. Further signals are ignored. A command that ends before it stops returns its own exit code.
    """
    timer, alarm = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    before = {number: signal.signal(number, _note_signal) for number in _SIGNALS}
    try:
        try:
            return command()
        finally:
            _leave_alone()  # no alarm may interrupt the clean-up below
    except _Stopped:
        number = _stop_signals[0]
        sys.stderr.write(f"stopped by {signal.Signals(number).name}\n")
        return 128 + number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _stop_signals:
            _stop_signals.clear()
            signal.signal(signal.SIGALRM, alarm)
            signal.setitimer(signal.ITIMER_REAL, *timer)


def stop_if_asked() -> None:
    """Stop the command here if a signal has come; in a thread other than the main one, do nothing."""
    # The clean-up is on the stack of the main thread alone.
    if _stop_signals and threading.current_thread() is threading.main_thread():
        _leave_alone()
        raise _Stopped


def _note_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    if not _stop_signals:
        _stop_signals.append(number)
        signal.signal(signal.SIGALRM, _force)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)


def _force(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    """Raise, again at each alarm: Python may drop the exception in a finalizer."""
    raise _Stopped


def _leave_alone() -> None:
    if _stop_signals:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Progress:
    """Writes the steps of a command to a stream: a bar on a terminal, plain lines elsewhere, nothing if `quiet`."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show one step; call the yielded function with the amount that was done, by default 1.

        A signal stops the command at such a call, or before the step.
        """
        stop_if_asked()
        with self._shown(name, total) as show:

            def advance(done: int = 1) -> None:
                show(done)
                stop_if_asked()

            yield advance

    @contextmanager
    def _shown(self, name: str, total: int | None) -> Iterator[Callable[[int], object]]:
        started = time.monotonic()
        if self._quiet:
            yield lambda _: None
        elif self._stream.isatty():
            from tqdm import tqdm  # here: the serving image imports this module and does not install tqdm

            with tqdm(total=total, desc=name, file=self._stream) as bar:
                yield bar.update
        else:
            self.line(f"{name} ...")
            yield lambda _: None
            self.line(f"{name}: {time.monotonic() - started:.1f} s")

    def line(self, text: str) -> None:
        """Write a line, unless `quiet`."""
        if not self._quiet:
            self._stream.write(f"{text}\n")
            self._stream.flush()


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_processes(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Yield the results for the items in their order, from as many processes as there are processors.

    ProcessError if one of them is killed. What runs there must be importable, and its results are pickled.
    """
    # Not forked: a copy of a process whose libraries have threads may wait without end for a lock.
    processes = min(len(os.sched_getaffinity(0)), len(items))
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield from pool.map(work, items)
    except BrokenProcessPool:
        raise ProcessError("a process of this command was killed; it may have lacked memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave it to the command when its processes end: a terminal interrupts all of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
    """Run a command line and return its exit code: that of the command or of its ProjectError, 2 for wrong usage.

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
        return _failed(str(error), error.exit_code)
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
