"""Ending a command by a signal as if it had failed: nothing is left behind and one line says so."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """A signal asked the command to end; no `except Exception` is to catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def until_stopped(command: Callable[[], int]) -> int:
    """The exit code of `command`, or 128 and the signal's number, after one line, where SIGINT or SIGTERM ends it.

    The signal is raised inside the command, so that what it has begun is cleaned up; while that goes on, further
    signals are ignored.
    """
    before = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        return command()
    except _Stopped as stopped:
        sys.stderr.write(f"stopped by {signal.Signals(stopped.number).name}\n")
        return 128 + stopped.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal.signal calls
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise _Stopped(number)
