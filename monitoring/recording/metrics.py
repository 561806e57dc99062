"""The Prometheus metrics of decisions, drift and the decision log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from scoring import Outcome, RiskLevel

from .buffer import Decided
from .log import Failure

_MISSING_BUCKETS = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110)


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
        self._missing = Histogram(
            "credit_scoring_missing_columns", "Columns that the model reads and an application lacks",
            buckets=_MISSING_BUCKETS, registry=registry,
        )  # fmt: skip
        self._unknown = Counter(
            "credit_scoring_unknown_levels_total", "Levels that the model does not know", ("model_version",),
            registry=registry,
        ).labels(version)  # fmt: skip
        self._withheld = Counter(
            "credit_scoring_approvals_withheld_total", "Applications referred because too little is known of them",
            ("model_version",), registry=registry,
        ).labels(version)  # fmt: skip
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
        self._unknown.inc(sum(map(len, decided.unknown.tolist())))
        self._withheld.inc(sum(map(bool, decided.withheld.tolist())))
        _observe(self._probability, decided.probability)
        _observe(self._missing, decided.missing)

    def failed(self, failure: Failure, lines: int) -> None:
        """Count lines that could not be written."""
        self._failures[failure].inc(lines)

    def check_failed(self, check: str) -> None:
        """Count a failure of a user's drift check."""
        self._check_failures[check].inc()


def _observe(histogram: Histogram, values: NDArray[Any]) -> None:
    """Count several values at once, for which a histogram has no public way."""
    bounds = histogram._upper_bounds  # noqa: SLF001
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds)).tolist()
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001
        if count:
            bucket.inc(count)
    histogram._sum.inc(float(values.sum()))  # noqa: SLF001
