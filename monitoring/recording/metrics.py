"""The Prometheus metrics of decisions, drift and the decision log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from scoring import Outcome, RiskLevel

from .buffer import Decided
from .log import Failure


class DecisionMetrics:
    """Counters of what was decided and recorded, correct over several workers as all of prometheus_client's."""

    def __init__(
        self,
        version: str,
        buckets: Sequence[float],
        checks: Sequence[str],
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._applications = Counter(
            "credit_scoring_applications_total", "Applications scored", ("model_version",), registry=registry
        ).labels(version)
        self._probability = Histogram(
            "credit_scoring_probability", "Calibrated probabilities of default", buckets=buckets, registry=registry
        )
        decisions = Counter(
            "credit_scoring_decisions_total", "Decisions", ("decision", "risk_level", "model_version"),
            registry=registry,
        )  # fmt: skip
        self._decisions = {
            (outcome, level): decisions.labels(outcome, level, version)
            for outcome, level in product(Outcome, RiskLevel)
        }
        self._lines = Counter(
            "credit_scoring_decision_log_lines_total", "Lines written into the decision log", registry=registry
        )
        failures = Counter(
            "credit_scoring_decision_log_failures_total", "Lines that could not be written", ("reason",),
            registry=registry,
        )  # fmt: skip
        self._failures = {failure: failures.labels(failure) for failure in Failure}
        check_failures = Counter(
            "credit_scoring_drift_check_failures_total", "Users' drift checks that failed", ("check",),
            registry=registry,
        )  # fmt: skip
        self._check_failures = {check: check_failures.labels(check) for check in checks}

    def count(self, decided: Decided, lines: int) -> None:
        """Count applications that were scored, and lines that were written."""
        self._lines.inc(lines)
        self._applications.inc(len(decided))
        outcomes = {outcome: decided.decision == outcome for outcome in Outcome}  # cheaper than hashing enumerations
        levels = {level: decided.risk_level == level for level in RiskLevel}
        for (outcome, level), counter in self._decisions.items():
            counter.inc(int(np.count_nonzero(outcomes[outcome] & levels[level])))
        probability = decided.probability
        # a histogram has no public way to take several values at once
        bounds = self._probability._upper_bounds  # noqa: SLF001
        counts = np.bincount(np.searchsorted(bounds, probability), minlength=len(bounds)).tolist()
        for bucket, count in zip(self._probability._buckets, counts, strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        self._probability._sum.inc(float(probability.sum()))  # noqa: SLF001

    def failed(self, failure: Failure, lines: int) -> None:
        """Count lines that could not be written."""
        self._failures[failure].inc(lines)

    def check_failed(self, check: str) -> None:
        """Count a failure of a user's drift check."""
        self._check_failures[check].inc()
