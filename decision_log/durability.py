"""What a record survives before its decision is answered, and the thread that waits for the disk for requests."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum

from decision_log.errors import NotRecordedError
from jobs.heartbeat import Heartbeat

_PAUSE_SECONDS = 0.5
"""Between two beats of the thread while nobody waits."""


class Durability(StrEnum):
    """What a record survives when its decision is answered."""

    PROCESS = "process"
    """The end of the service, also by kill -9: the line is in the page cache."""
    POWER = "power"
    """A power cut too: the disk has confirmed the line."""
    NONE = "none"
    """Nothing is promised: decisions are answered also where no line can be written, as `on_failure: drop` has it."""


class UnconfirmedFiles:
    """The files with lines that the disk has not confirmed, each held open until it has."""

    # A segment may be finished and closed while requests wait for its lines, so each has a descriptor of its own here.

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[int, int] = {}

    def add(self, number: int, descriptor: int) -> None:
        """Hold the file of a segment open."""
        with self._lock:
            if number not in self._files:
                self._files[number] = os.dup(descriptor)

    def flush(self) -> None:
        """Wait for the disk; OSError if it refuses. What was added before is confirmed then."""
        with self._lock:
            files, self._files = self._files, {}
        try:
            for descriptor in files.values():
                os.fdatasync(descriptor)
        finally:
            for descriptor in files.values():
                os.close(descriptor)


class GroupCommit:
    """A thread that has the disk confirm lines; all requests that wait share one confirmation.

    Parameters
    ----------
    flush : waits for the disk; OSError if it refuses
    failed : is told how many requests waited for a confirmation that failed
    refuses : whether these requests fail, or are answered all the same
    """

    def __init__(
        self, flush: Callable[[], None], failed: Callable[[int], object], heartbeat: Heartbeat, *, refuses: bool
    ) -> None:
        self._flush = flush
        self._failed = failed
        self._heartbeat = heartbeat
        self._refuses = refuses
        self._changed = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="confirmations", daemon=True)
        self._thread.start()

    def confirmed(self) -> Future[None]:
        """A future that is done when the disk has all lines that were written before; NotRecordedError if it failed."""
        waiting: Future[None] = Future()
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting

    def close(self) -> None:
        """Confirm what is left, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping or self._waiting:
            with self._changed:
                if not self._waiting and not self._stopping:
                    self._changed.wait(_PAUSE_SECONDS)
                waiting, self._waiting = self._waiting, []
            with self._heartbeat.guarded():
                self._confirm([one for one in waiting if one.set_running_or_notify_cancel()])
        self._heartbeat.rest()

    def _confirm(self, waiting: list[Future[None]]) -> None:
        try:
            if waiting:
                self._flush()
        except OSError:
            self._failed(len(waiting))
            for one in waiting:
                if self._refuses:
                    one.set_exception(NotRecordedError("the disk did not confirm the line"))
                else:
                    one.set_result(None)
            raise
        for one in waiting:
            one.set_result(None)
