"""The Prometheus metrics of decisions, drift and the decision log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from decision_log.format import Header
from decision_log.writer import Failure
from monitoring.counts import PendingDecisions
from monitoring.windows import CompleteWindow, Findings
from scoring.policy import DecisionKind, RiskLevel

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
            for outcome, level in product(DecisionKind, RiskLevel)
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

    def count(self, decided: PendingDecisions, lines: int) -> None:
        """Count applications that were scored, and lines that were written."""
        self._lines.inc(lines)
        self._applications.inc(len(decided))
        # cheaper than hashing an enumeration for each row
        outcomes = {outcome: decided.decision == outcome for outcome in DecisionKind}
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
    """Count several values at once."""
    # prometheus_client 0.26 takes one value a call, and each is a write into a mapped file. Its private parts are
    # touched so that a batch costs one write for each bucket.
    bounds = histogram._upper_bounds  # noqa: SLF001
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds)).tolist()
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001
        if count:
            bucket.inc(count)
    histogram._sum.inc(float(values.sum()))  # noqa: SLF001


def model_info(header: Header) -> GaugeMetricFamily:
    """The model that answers, as a gauge of 1 with its labels."""
    family = GaugeMetricFamily(
        "credit_scoring_model_info", "The model that answers", labels=("model", "version", "digest")
    )
    family.add_metric((header.model, header.model_version, header.digest), 1)
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
    for name, help_text, value in (
        ("drift_score_psi", "PSI of the PD against the drift reference, in the last window", findings.score_psi),
        ("drifted_features", "Features that have drifted in the last window", len(findings.drifted)),
        ("drift_alarm", "1 where the judgement of the last window raises the alarm", findings.alarm),
        ("drift_window_rows", "Applications in the last window", window.rows),
        ("drift_window_end_timestamp_seconds", "When the last window was complete", window.end),
    ):
        yield GaugeMetricFamily(f"credit_scoring_{name}", help_text, value=value)
