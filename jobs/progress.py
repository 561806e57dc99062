"""Progress of long work: a bar on a terminal, plain lines elsewhere; and how a signal ends it.

A command that a signal ends has failed: nothing is left behind and one line says so. What a signal's handler raises can
surface anywhere: in a finalizer, where Python drops it, or in a library that holds a lock and will want it again
(https://docs.python.org/3/library/signal.html#handlers-and-exceptions). So a signal only asks, and the command stops
where it says that it can: at each step of its progress, at each file of a log, at each tree of a LightGBM fit.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

Advance = Callable[..., object]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0  # seconds from a signal until the command is stopped wherever it is; Kubernetes kills after 30

_asked: list[int] = []
"""The signal that asked the command to stop, once one has."""


class _Stopped(BaseException):
    """A signal asked the command to end; no `except Exception` is to catch it."""


def until_stopped(command: Callable[[], int]) -> int:
    """The exit code of `command`, or 128 and the signal's number, after one line, where SIGINT or SIGTERM ends it.

    The command is stopped at its next `stop_if_asked`, or wherever it is if it does not come to one within five
    seconds, so that what it has begun is cleaned up; further signals are ignored. A command that ends before it comes
    so far has ended as if nothing had been asked.
    """
    timer, alarm = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    before = {number: signal.signal(number, _ask) for number in _SIGNALS}
    try:
        try:
            return command()
        finally:
            _leave_alone()
    except _Stopped:
        number = _asked[0]
        sys.stderr.write(f"stopped by {signal.Signals(number).name}\n")
        return 128 + number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _asked:
            _asked.clear()
            signal.signal(signal.SIGALRM, alarm)
            signal.setitimer(signal.ITIMER_REAL, *timer)


def stop_if_asked() -> None:
    """Stop the command here if a signal has asked for it; for the main thread, which alone can clean up."""
    if _asked and threading.current_thread() is threading.main_thread():
        _leave_alone()
        raise _Stopped


def _ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    if not _asked:
        _asked.append(number)
        signal.signal(signal.SIGALRM, _force)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)


def _force(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    """Come again until the command has ended: what is raised here may be lost."""
    raise _Stopped


def _leave_alone() -> None:
    if _asked:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Progress:
    """Reports steps to a stream; `quiet` reports nothing."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """One step; call what is yielded with the amount that was done, by default 1.

        A signal ends the command there, or before the step (`stop_if_asked`).
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
            from tqdm import tqdm

            with tqdm(total=total, desc=name, file=self._stream) as bar:
                yield bar.update
        else:
            self.line(f"{name} ...")
            yield lambda _: None
            self.line(f"{name}: {time.monotonic() - started:.1f} s")

    def line(self, text: str) -> None:
        """A line of its own."""
        if not self._quiet:
            self._stream.write(f"{text}\n")
            self._stream.flush()
