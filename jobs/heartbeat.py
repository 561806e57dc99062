"""Threads and timers beside the requests, with a metric that shows when each last worked, and its failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary, WeakMethod, finalize

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from jobs.settings import printable

_LOGGER = logging.getLogger("bentoml.credit_scoring")
_RESTING = float("inf")
_LONGEST_PAUSE = 1.0
"""Seconds between two beats of a thread that has nothing to do."""


class Heartbeat:
    """Records when one thread or timer last did its work, and how often the work failed.

    `credit_scoring_thread_heartbeat_timestamp_seconds` is the oldest over all workers, and infinite while there is
    nothing to do. Each failure is counted; a failure of a new type is logged in one line.

    Parameters
    ----------
    thread : name of the thread, the label of the metrics
    periodic : whether it works all the time, or rests until it is asked
    """

    def __init__(self, thread: str, *, periodic: bool = True, registry: CollectorRegistry = REGISTRY) -> None:
        beats, failures = _metrics(registry)
        self._thread = thread
        self._periodic = periodic
        self._beats = beats.labels(thread)
        self._failures = failures.labels(thread)
        self._failing: type[Exception] | None = None
        if periodic:
            self.beat()
        else:
            self.rest()

    @property
    def failing(self) -> bool:
        """Whether the work failed the last time."""
        return self._failing is not None

    def beat(self) -> None:
        """Record that the work was done just now."""
        self._beats.set(time.time())

    def rest(self) -> None:
        """Record that there is nothing to do until the next beat."""
        self._beats.set(_RESTING)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Run one turn of the work: beat or rest if it succeeds, count and log the error if it fails."""
        if not self._periodic:
            self.beat()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a thread that ends, or a timer, would end for good and in silence
            self._failures.inc()
            # Compared by type: the text of an error may differ each time, and would fill the log.
            if self._failing is not type(error):
                _LOGGER.error("the thread %s goes on after %s", self._thread, _described(error))  # noqa: TRY400 - one line
            self._failing = type(error)
        else:
            self._failing = None
            if self._periodic:
                self.beat()
            else:
                self.rest()


class PeriodicThread:
    """Repeats some work every `seconds`, until it is stopped or the owner of the method is gone.

    Parameters
    ----------
    work : a bound method; its owner is not kept alive
    """

    def __init__(self, heartbeat: Heartbeat, work: Callable[[], None], seconds: float, *, name: str) -> None:
        self._stopped = threading.Event()
        arguments = (heartbeat, WeakMethod(work), seconds, self._stopped)
        # Wakes the thread at once when its owner goes; it would otherwise sleep on to the end of its interval.
        finalize(work.__self__, self._stopped.set)  # type: ignore[attr-defined]
        threading.Thread(target=_repeat, args=arguments, name=name, daemon=True).start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped.set()


def _repeat(
    heartbeat: Heartbeat, work: WeakMethod[Callable[[], None]], seconds: float, stopped: threading.Event
) -> None:
    while not _stopped_within(heartbeat, seconds, stopped):
        method = work()
        if method is None:
            return
        with heartbeat.guarded():
            method()
        del method  # a bound method would keep its owner alive while the thread waits


def _stopped_within(heartbeat: Heartbeat, seconds: float, stopped: threading.Event) -> bool:
    """Wait for `seconds`; True if the thread was stopped."""
    # In slices, so that a thread with a long interval beats too: one limit of an alert fits all threads.
    while seconds > _LONGEST_PAUSE:
        if stopped.wait(_LONGEST_PAUSE):
            return True
        if not heartbeat.failing:
            heartbeat.beat()
        seconds -= _LONGEST_PAUSE
    return stopped.wait(seconds)


_KNOWN: WeakKeyDictionary[CollectorRegistry, tuple[Gauge, Counter]] = WeakKeyDictionary()


def _metrics(registry: CollectorRegistry) -> tuple[Gauge, Counter]:
    """Return the metrics of all threads in this registry."""
    # prometheus_client refuses a second metric of the same name in a registry, so threads share them by label.
    if registry not in _KNOWN:
        beats = Gauge(
            "credit_scoring_thread_heartbeat_timestamp_seconds",
            "When a thread or timer last did its work; infinite while it has none", ("thread",),
            registry=registry, multiprocess_mode="livemin",
        )  # fmt: skip
        failures = Counter(
            "credit_scoring_thread_failures_total", "Turns of a thread or timer that failed", ("thread",),
            registry=registry,
        )  # fmt: skip
        _KNOWN[registry] = beats, failures
    return _KNOWN[registry]


def _described(error: Exception) -> str:
    """Return the type of an error and the system's reason, never its text: it may hold an applicant's value."""
    reason = error.strerror if isinstance(error, OSError) else None
    return printable(f"{type(error).__name__} ({reason})" if reason else type(error).__name__)
