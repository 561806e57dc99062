"""The gauges that are computed from the counts of all workers when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from monitoring.decision import Header

from .checks import CompleteWindow
from .windows import Findings


def model_info(header: Header) -> GaugeMetricFamily:
    """Which model answers."""
    family = GaugeMetricFamily(
        "credit_scoring_model_info", "The model that answers", labels=("model", "version", "digest")
    )
    family.add_metric((header.model, header.model_version, header.digest), 1)
    return family


def default_rate(mean: float) -> GaugeMetricFamily:
    """The mean PD of recent decisions."""
    return GaugeMetricFamily(
        "credit_scoring_default_rate", "Mean probability of default of the decisions of the last days", value=mean
    )


def decision_log(written: float, finished: float, aside: int) -> Iterator[GaugeMetricFamily]:
    """How long the oldest segment has been written, how long the oldest has waited to be closed, and what is aside."""
    for name, help_text, value in (
        ("segment_age_seconds", "Since the first line of the oldest segment that is written", written),
        ("unclosed_seconds", "Since the last line of the oldest segment that is finished and not closed", finished),
        ("set_aside", "Files that were set aside, since they are no whole segments", aside),
    ):
        yield GaugeMetricFamily(f"credit_scoring_decision_log_{name}", help_text, value=value)


def passed_over(counts: int) -> GaugeMetricFamily:
    """Files beside the counts of the workers that are none."""
    return GaugeMetricFamily(
        "credit_scoring_counts_passed_over", "Files beside the workers' counts that are none, or damaged", value=counts
    )


def drift(window: CompleteWindow, findings: Findings) -> Iterator[GaugeMetricFamily]:
    """The last complete window."""
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
