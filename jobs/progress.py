"""Show the progress of long work, and stop a command in good order at a signal.

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from types import FrameType
from typing import TextIO, TypeVar

from jobs.errors import ProcessError

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
