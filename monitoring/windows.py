"""Windows of drift counts, how the last complete one was judged, and the metrics of decisions and drift."""

from __future__ import annotations

import collections
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from decision_log.checkpoints import Checkpoint
from decision_log.format import Header
from decision_log.writer import Failure
from jobs.output import locked, remove_unfinished, replaced
from jobs.settings import read_regular
from monitoring.counts import PendingDecisions, SharedCounts
from monitoring.drift import judge, whole_periods
from monitoring.errors import CheckError
from monitoring.settings import DriftSettings, WindowSettings
from scoring.drift_reference import DriftReference, Window
from scoring.policy import DecisionKind, RiskLevel

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
    """The figures of one judged window, by feature; `checks` holds the results of users' checks.

    What is not judged, as too few applications had a history, has no figures.
    """

    psi: Mapping[str, float]
    missing: Mapping[str, float]
    unseen: Mapping[str, float]
    score_psi: float | None
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
            score_psi=None if judgement.score is None else judgement.score.psi,
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
            window = CompleteWindow(state.since, now, total - state.base, self._shared_counts.reference)
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
    return {
        "features": window.features.tolist(),
        "probability": window.probability.tolist(),
        "unavailable": window.unavailable,
    }


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
    return Window(features, probability, int(plain.get("unavailable", 0)))


_MISSING_BUCKETS = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110)


class DecisionMetrics:
    """Counters of decisions and records, which prometheus_client adds up over the workers."""

    # Every combination of labels is made at the start: Prometheus computes no increase for a series that appears with
    # its first count, so the first failure would raise no alert.

    def __init__(
        self,
        version: str,
        buckets: Sequence[float],
        checks: Sequence[str],
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._by_version = (
            Counter(
                "credit_scoring_applications_total", "Applications scored", ("model_version",), registry=registry
            ),
            Counter(
                "credit_scoring_unknown_levels_total", "Levels that the model does not know", ("model_version",),
                registry=registry,
            ),
            Counter(
                "credit_scoring_approvals_withheld_total", "Applications referred because too little is known of them",
                ("model_version",), registry=registry,
            ),
            Counter(
                "credit_scoring_explorable_declines_total", "Declines that the policy may approve at random",
                ("model_version",), registry=registry,
            ),
            Counter(
                "credit_scoring_explored_total", "Declines that the policy approved at random", ("model_version",),
                registry=registry,
            ),
        )  # fmt: skip
        self._by_decision = Counter(
            "credit_scoring_decisions_total", "Decisions", ("decision", "risk_level", "model_version"),
            registry=registry,
        )  # fmt: skip
        self._label(version)
        self._probability = Histogram(
            "credit_scoring_probability", "Calibrated probabilities of default", buckets=buckets, registry=registry
        )
        self._missing = Histogram(
            "credit_scoring_missing_columns", "Columns that the model reads and an application lacks",
            buckets=_MISSING_BUCKETS, registry=registry,
        )  # fmt: skip
        self._lines = Counter(
            "credit_scoring_decision_log_lines_total", "Lines written into the decision log", registry=registry
        )
        failures = Counter(
            "credit_scoring_decision_log_failures_total", "Lines that could not be written", ("reason",),
            registry=registry,
        )  # fmt: skip
        self._failures = {failure: failures.labels(failure) for failure in Failure}
        self._checkpoints = Counter(
            "credit_scoring_checkpoints_total", "Checkpoints of the decision log that were kept", registry=registry
        )
        self._checkpoint_failures = Counter(
            "credit_scoring_checkpoint_failures_total", "Checkpoints of the decision log that could not be kept",
            registry=registry,
        )  # fmt: skip
        self._last_checkpoint = Gauge(
            "credit_scoring_checkpoint_timestamp_seconds", "When the last checkpoint of the decision log was kept",
            registry=registry, multiprocess_mode="max",
        )  # fmt: skip
        check_failures = Counter(
            "credit_scoring_drift_check_failures_total", "Users' drift checks that failed", ("check",),
            registry=registry,
        )  # fmt: skip
        self._check_failures = {check: check_failures.labels(check) for check in checks}

    def _label(self, version: str) -> None:
        counters = (one.labels(version) for one in self._by_version)
        self._applications, self._unknown, self._withheld, self._explorable, self._explored = counters
        self._decisions = {
            (outcome, level): self._by_decision.labels(outcome, level, version)
            for outcome, level in product(DecisionKind, RiskLevel)
        }

    def of(self, version: str) -> Self:
        """The same counters, for the decisions of another model."""
        other = copy(self)
        other._label(version)  # noqa: SLF001 - of the same class
        return other

    def count(self, decided: PendingDecisions, lines: int) -> None:
        """Count applications that were scored, and lines that were written."""
        self._lines.inc(lines)
        self._applications.inc(len(decided))
        # By identity, since to hash or to compare an enumeration takes several times as long.
        counts = collections.Counter(
            zip(map(id, decided.decision.tolist()), map(id, decided.risk_level.tolist()), strict=True)
        )
        for (outcome, level), counter in self._decisions.items():
            counter.inc(counts[id(outcome), id(level)])
        self._unknown.inc(sum(map(len, decided.unknown.tolist())))
        self._withheld.inc(sum(map(bool, decided.withheld.tolist())))
        _observe(self._probability, decided.probability)
        _observe(self._missing, decided.missing)

    def explored(self, possible: int, drawn: int) -> None:
        """Count declines that might be approved at random, and those that were drawn."""
        if possible:
            self._explorable.inc(possible)
            self._explored.inc(drawn)

    def failed(self, failure: Failure, lines: int) -> None:
        """Count lines that could not be written."""
        self._failures[failure].inc(lines)

    def attested(self, checkpoint: Checkpoint) -> None:
        """Count a checkpoint that was kept."""
        self._checkpoints.inc()
        self._last_checkpoint.set(checkpoint.time.timestamp())

    def not_attested(self) -> None:
        """Count a checkpoint that could not be kept."""
        self._checkpoint_failures.inc()

    def check_failed(self, check: str) -> None:
        """Count a failure of a user's drift check."""
        self._check_failures[check].inc()


def _observe(histogram: Histogram, values: NDArray[Any]) -> None:
    """Count several values at once."""
    # prometheus_client 0.26 takes one value a call, and each is a write into a mapped file. Its private parts are
    # touched so that a batch costs one write for each bucket.
    bounds = histogram._upper_bounds  # noqa: SLF001
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds)).tolist()
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001
        if count:
            bucket.inc(count)
    histogram._sum.inc(float(values.sum()))  # noqa: SLF001


def model_info(header: Header, portfolio: str) -> GaugeMetricFamily:
    """The model that answers and the name of its portfolio, as a gauge of 1 with its labels."""
    family = GaugeMetricFamily(
        "credit_scoring_model_info", "The model that answers", labels=("model", "version", "digest", "portfolio")
    )
    family.add_metric((header.model, header.model_version, header.digest, portfolio), 1)
    return family


def default_rate(mean: float) -> GaugeMetricFamily:
    """The mean PD of recent decisions, as a gauge."""
    return GaugeMetricFamily(
        "credit_scoring_default_rate", "Mean probability of default of the decisions of the last days", value=mean
    )


def decision_log(written: float, finished: float, aside: int) -> Iterator[GaugeMetricFamily]:
    """The age of the oldest segment in use, the wait of the oldest finished one, and the files set aside."""
    for name, help_text, value in (
        ("segment_age_seconds", "Since the first line of the oldest segment that is written", written),
        ("unclosed_seconds", "Since the last line of the oldest segment that is finished and not closed", finished),
        ("set_aside", "Files that were set aside, since they are no whole segments", aside),
    ):
        yield GaugeMetricFamily(f"credit_scoring_decision_log_{name}", help_text, value=value)


def passed_over(counts: int) -> GaugeMetricFamily:
    """Files beside the counts of the workers that hold no counts."""
    return GaugeMetricFamily(
        "credit_scoring_counts_passed_over", "Files beside the workers' counts that are none, or damaged", value=counts
    )


def drift(window: CompleteWindow, findings: Findings) -> Iterator[GaugeMetricFamily]:
    """The figures of the last complete window, as gauges."""
    for name, help_text, values, label in (
        ("drift_psi", "PSI of a feature against the drift reference", findings.psi, "feature"),
        ("feature_missing_ratio", "Share of applications without the feature", findings.missing, "feature"),
        ("feature_unseen_ratio", "Share with a category that the model does not know", findings.unseen, "feature"),
        ("drift_check", "Result of a user's check", findings.checks, "check"),
    ):
        family = GaugeMetricFamily(f"credit_scoring_{name}", f"{help_text}, in the last window", labels=(label,))
        for key, value in values.items():
            family.add_metric((key,), value)
        yield family
    for name, help_text, figure in (
        ("drift_score_psi", "PSI of the PD against the drift reference, in the last window", findings.score_psi),
        ("drifted_features", "Features that have drifted in the last window", len(findings.drifted)),
        ("drift_alarm", "1 where the judgement of the last window raises the alarm", findings.alarm),
        ("drift_window_rows", "Applications in the last window", window.rows),
        ("drift_window_end_timestamp_seconds", "When the last window was complete", window.end),
    ):
        yield GaugeMetricFamily(f"credit_scoring_{name}", help_text, value=figure)
