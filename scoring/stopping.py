"""Ending a command by a signal as if it had failed: nothing is left behind and one line says so.

What a signal's handler raises can surface anywhere: in a finalizer, where Python drops it, or in a library that holds a
lock and will want it again (https://docs.python.org/3/library/signal.html#handlers-and-exceptions). So a signal only
asks, and the command stops where it says that it can: at each step of its progress and at each tree of a fit.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0  # seconds from a signal until the command is stopped wherever it is; Kubernetes kills after 30

_asked: list[int] = []
"""The signal that asked the command to stop, once one has."""


class _Stopped(BaseException):
    """A signal asked the command to end; no `except Exception` is to catch it."""


def until_stopped(command: Callable[[], int]) -> int:
    """The exit code of `command`, or 128 and the signal's number, after one line, where SIGINT or SIGTERM ends it.

    The command is stopped at its next `stop_if_asked`, or wherever it is if it does not come to one within five
    seconds, so that what it has begun is cleaned up; while that goes on, further signals are ignored.
    """
    before = {number: signal.signal(number, _ask) for number in _SIGNALS}
    try:
        return command()
    except _Stopped:
        [number] = _asked
        sys.stderr.write(f"stopped by {signal.Signals(number).name}\n")
        return 128 + number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _asked:
            _asked.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


def stop_if_asked(*_: object) -> None:
    """Stop the command here if a signal has asked for it; for the main thread, which alone can clean up."""
    if _asked and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise _Stopped


def _ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _asked.append(number)
    signal.signal(signal.SIGALRM, _force)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)


def _force(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    raise _Stopped
