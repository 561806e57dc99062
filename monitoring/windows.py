"""Windows of drift counts: when one is complete over all workers, and how the last complete one was judged."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jobs.output import locked, remove_unfinished, replaced
from jobs.settings import read_regular
from monitoring.counts import SharedCounts
from monitoring.drift import judge, whole_periods
from monitoring.errors import CheckError
from monitoring.settings import DriftSettings, WindowSettings
from scoring.drift_reference import DriftReference, Window

_LOGGER = logging.getLogger("bentoml.credit_scoring")


@dataclass(frozen=True, slots=True, eq=False)
class CompleteWindow:
    """A complete window, as a user's check gets it.

    Attributes
    ----------
    start, end : seconds since 1970
    counts : over the bins of the reference
    reference : the bins, and the counts of the rows that the model was fitted on
    """

    start: float
    end: float
    counts: Window
    reference: DriftReference

    @property
    def rows(self) -> int:
        """How many applications the window holds."""
        return self.counts.rows

    def of(self, feature: str) -> NDArray[np.int64]:
        """The counts of one feature; the last two are of unseen categories and of missing values."""
        return self.reference.by_feature(self.counts.features)[feature]


Check = Callable[[CompleteWindow], float]
"""Gives one number, which becomes `credit_scoring_drift_check{check=...}`."""


def load_checks(names: Sequence[str]) -> dict[str, Check]:
    """Import the checks that the settings name; CheckError for one that cannot be found."""
    return {name: _load(name) for name in names}


def _load(name: str) -> Check:
    module, _, function = name.partition(":")
    try:
        check = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CheckError(f"recording.checks: {name}: {error}") from None
    if not callable(check):
        raise CheckError(f"recording.checks: {name}: not a function")
    return check  # type: ignore[no-any-return]


def run_checks(
    checks: Mapping[str, Check], window: CompleteWindow, failed: Callable[[str], object]
) -> dict[str, float]:
    """Run the checks on a window; `failed` is called with the name of each that gives no finite number."""
    results = {}
    for name, check in checks.items():
        try:
            results[name] = _finite(check(window))
        except Exception:  # a user's code must not stop the others, nor the service
            _LOGGER.exception("the drift check %s failed", name)
            failed(name)
    return results


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


_STATE = "window.json"
_LOCK = "window.lock"
_MOST = 1 << 26
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Findings:
    """The figures of one judged window, by feature; `checks` holds the results of users' checks."""

    psi: Mapping[str, float]
    missing: Mapping[str, float]
    unseen: Mapping[str, float]
    score_psi: float
    drifted: tuple[str, ...]
    alarm: bool
    checks: Mapping[str, float]

    @classmethod
    def of(cls, window: CompleteWindow, drift: DriftSettings, checks: Mapping[str, float]) -> Self:
        """Judge a window and keep the figures that become metrics."""
        whole = whole_periods(timedelta(seconds=window.end - window.start))
        judgement = judge(window.reference, window.counts, drift, whole=whole)
        return cls(
            psi={shift.name: shift.psi for shift in judgement.features},
            missing={shift.name: shift.missing for shift in judgement.features},
            unseen={shift.name: shift.unseen for shift in judgement.features},
            score_psi=judgement.score.psi,
            drifted=tuple(shift.name for shift in judgement.drifted),
            alarm=judgement.alarm,
            checks=checks,
        )


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The counts and the time at which the current window began, and the last complete window."""

    base: Window
    since: float
    last: tuple[CompleteWindow, Findings] | None


class Windows:
    """Completes windows of the shared counts, and keeps them in a file that all workers of a service share.

    Parameters
    ----------
    failed : called with the name of each user's check that failed
    """

    # Counts only grow, so a window is the counts now less those at its beginning. No worker has to set its own counts
    # back, and a scrape sees no moment in between.

    def __init__(
        self,
        directory: Path,
        shared_counts: SharedCounts,
        settings: WindowSettings,
        drift: DriftSettings,
        checks: Mapping[str, Check],
        failed: Callable[[str], object],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._path = directory / _STATE
        self._lock = directory / _LOCK
        self._shared_counts = shared_counts
        self._settings = settings
        self._drift = drift
        self._checks = checks
        self._failed = failed
        self._clock = clock
        self._read: tuple[int, State] | None = None
        with locked(self._lock, wait=False) as ours:
            if ours and not self._path.exists():
                self._write(State(shared_counts.empty().window, clock(), None))

    @property
    def state(self) -> State:
        """The state in the shared file; if the file is damaged, a window begins now."""
        try:
            # every scrape asks, so the file is parsed again only when another worker has written it
            written = self._path.stat().st_mtime_ns
            if self._read is None or self._read[0] != written:
                self._read = written, _state(json.loads(read_regular(self._path, _MOST)), self._shared_counts.reference)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return self._restarted(type(error).__name__)
        return self._read[1]

    def _restarted(self, reason: str) -> State:
        state = State(self._shared_counts.total().window, self._clock(), None)
        with locked(self._lock, wait=False) as ours:
            if ours:
                _LOGGER.error("%s: damaged (%s), a new window begins", self._path.name, reason)
                with suppress(OSError):  # if that fails too, the next caller tries again
                    if self._path.is_dir():
                        self._path.rename(self._path.with_suffix(f".{time.time_ns()}"))
                    self._write(state)
        return state

    def due(self, now: float) -> bool:
        """Whether the current window is complete."""
        state, settings = self.state, self._settings
        seconds = now - state.since
        if seconds < settings.at_least_seconds:
            return False
        rows = self._shared_counts.rows() - state.base.rows
        if rows < 0:  # the counts of a worker were lost
            self._restarted("fewer applications than before")
            return False
        return rows >= self._drift.min_rows and (rows >= settings.rows or seconds >= settings.seconds)

    def complete(self, now: float) -> None:
        """Judge the current window and begin the next one, unless another worker does so already."""
        with locked(self._lock, wait=False) as ours:
            # asked again under the lock: another worker may have completed the window a moment ago
            if not ours or not self.due(now):
                return
            state, total = self.state, self._shared_counts.total().window
            window = CompleteWindow(state.since, now, _less(total, state.base), self._shared_counts.reference)
            findings = Findings.of(window, self._drift, run_checks(self._checks, window, self._failed))
            self._write(State(total, now, (window, findings)))

    def _write(self, state: State) -> None:
        # Other workers read the file at any moment, so it is replaced whole. It is not flushed to the disk, since it
        # does not outlive the service.
        remove_unfinished(self._path)
        with replaced(self._path, mode=_OWNER_ONLY) as file:
            file.write(json.dumps(_plain(state)).encode())


def _plain(state: State) -> dict[str, Any]:
    last: dict[str, Any] | None = None
    if state.last is not None:
        window, findings = state.last
        last = {
            "start": window.start,
            "end": window.end,
            "counts": _counts(window.counts),
            "findings": asdict(findings),
        }
    return {"base": _counts(state.base), "since": state.since, "last": last}


def _counts(window: Window) -> dict[str, Any]:
    return {"features": window.features.tolist(), "probability": window.probability.tolist()}


def _state(plain: Mapping[str, Any], reference: DriftReference) -> State:
    last = plain["last"]
    return State(
        base=_window(plain["base"], reference),
        since=float(plain["since"]),
        last=None
        if last is None
        else (
            CompleteWindow(float(last["start"]), float(last["end"]), _window(last["counts"], reference), reference),
            Findings(**last["findings"] | {"drifted": tuple(last["findings"]["drifted"])}),
        ),
    )


def _window(plain: Mapping[str, Any], reference: DriftReference) -> Window:
    features, probability = (np.array(plain[name], dtype=np.int64) for name in ("features", "probability"))
    if features.shape != reference.counts.shape or probability.shape != (reference.probability.size,):
        raise ValueError("counts over other bins")
    return Window(features, probability)


def _less(window: Window, base: Window) -> Window:
    return Window(window.features - base.features, window.probability - base.probability)
