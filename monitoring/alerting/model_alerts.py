"""The alerts on the model and its records: drift, decisions, performance, decision log."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.alerting.promql import DECISIONS, happened, increase
from monitoring.alerting.recorded import Recorded
from monitoring.alerting.rule import Alert
from monitoring.alerting.settings import AlertingSettings, Severity
from monitoring.alerting.thresholds import Thresholds

_LOG = "credit_scoring_decision_log"
_AUC = "credit_scoring_performance_auc_upper"


def model_alerts(settings: AlertingSettings, thresholds: Thresholds) -> list[Alert]:
    """Drift of features and score, the share of declines, matured outcomes, and the decision log."""
    return [
        *_drift(settings, thresholds),
        *_values(settings),
        *_checks(settings),
        *_outcomes(settings, thresholds),
        *_log(settings),
    ]


def _drift(settings: AlertingSettings, thresholds: Thresholds) -> Iterator[Alert]:
    score = "max by (job) (credit_scoring_drift_score_psi)"
    worst = (
        '{{ range query "topk(3, max by (feature) (credit_scoring_drift_psi))" }}'
        "{{ .Labels.feature }} {{ .Value | humanize }}; {{ end }}"
    )
    yield Alert(
        "CreditScoringDrift", "max by (job) (credit_scoring_drift_alarm) > 0", Severity.WARNING,
        "What is scored has drifted",
        f"A window differs from the training data, materially and beyond chance. Largest PSI: {worst}",
        settings.holds.short,
    )  # fmt: skip
    yield Alert(
        "CreditScoringScoreDrifted", f"{score} >= {thresholds.major:g}", Severity.CRITICAL,
        "The score has drifted far",
        f"The PSI of the PD is {{{{ $value | humanize }}}}; drift is major from {thresholds.major:g}.",
        settings.holds.short,
    )  # fmt: skip


def _values(settings: AlertingSettings) -> Iterator[Alert]:
    windows, jump = settings.windows, settings.limits.category_jump
    for kind, name in (("missing", "CreditScoringMissingJump"), ("unseen", "CreditScoringUnseenJump")):
        metric = f"credit_scoring_feature_{kind}_ratio"
        now = f"max by (job, feature) ({metric})"
        before = f"max by (job, feature) (avg_over_time({metric}[{windows.baseline}] offset {windows.recent}))"
        yield Alert(
            name, f"{now} - {before} > {jump:g}", Severity.WARNING,
            f"A feature has many more {kind} values than before",
            f"{{{{ $labels.feature }}}} is {kind} in {{{{ $value | humanizePercentage }}}} more of the applications "
            f"than in the {windows.baseline} before.",
            settings.holds.short,
        )  # fmt: skip


def _checks(settings: AlertingSettings) -> Iterator[Alert]:
    windows, limits = settings.windows, settings.limits
    failures = happened("credit_scoring_drift_check_failures_total", windows.recent, by="job, check")
    yield Alert(
        "CreditScoringDriftCheckFailing", failures, Severity.WARNING,
        "A drift check of your own fails",
        f"The check {{{{ $labels.check }}}} failed {{{{ $value | humanize }}}} times within {windows.recent}.",
    )  # fmt: skip
    age = "time() - max by (job) (credit_scoring_drift_window_end_timestamp_seconds)"
    deciding = f"{increase(DECISIONS, windows.recent)} > 0"
    yield Alert(
        "CreditScoringDriftStale", f"{age} > {limits.drift_window_age.seconds:g} and {deciding}", Severity.WARNING,
        "Drift has not been looked at for long",
        "Decisions are made, and the last complete window ended {{ $value | humanizeDuration }} ago.",
        settings.holds.settled,
    )  # fmt: skip


def _outcomes(settings: AlertingSettings, thresholds: Thresholds) -> Iterator[Alert]:
    windows, limits, recorded = settings.windows, settings.limits, Recorded(settings.windows)
    shift = f"abs({recorded.declines(windows.recent)} - {recorded.declines(windows.baseline)} offset {windows.recent})"
    enough = f"{recorded.decision_count} >= {limits.decline_rows}"
    yield Alert(
        "CreditScoringDeclinesShifted", f"{shift} > {limits.decline_shift:g} and {enough}", Severity.WARNING,
        "The share of declines has changed",
        f"It differs by {{{{ $value | humanizePercentage }}}} from that of the {windows.baseline} before.",
        settings.holds.settled,
    )  # fmt: skip
    yield Alert(
        "CreditScoringPerformanceLow", f"{_AUC} < {thresholds.floor:g}", Severity.CRITICAL,
        "The model no longer ranks well enough",
        f"The AUC on matured outcomes is at most {{{{ $value | humanize }}}}, its interval allowed for; the floor is "
        f"{thresholds.floor:g}.",
    )  # fmt: skip
    yield Alert(
        "CreditScoringPerformanceStale",
        f"time() - credit_scoring_performance_timestamp_seconds > {limits.performance_age.seconds:g}", Severity.WARNING,
        "Performance has not been measured for long",
        "The last report on matured outcomes was made {{ $value | humanizeDuration }} ago.",
    )  # fmt: skip


def _log(settings: AlertingSettings) -> Iterator[Alert]:
    window, limits = settings.windows.rate, settings.limits
    yield Alert(
        "CreditScoringLogFailing", happened(f"{_LOG}_failures_total", window, by="job, reason"), Severity.CRITICAL,
        "Decisions are not written down",
        f"{{{{ $value | humanize }}}} lines of the decision log were lost or refused within {window}: "
        "{{ $labels.reason }}.",
    )  # fmt: skip
    decided, written = (
        f"sum by (job, instance) (increase({metric}[{window}]))" for metric in (DECISIONS, f"{_LOG}_lines_total")
    )
    kept = f"on (job, instance) {_LOG}_segment_age_seconds"  # there where a log is
    yield Alert(
        "CreditScoringLogIncomplete", f"{decided} > 0 and {written} == 0 and {kept}", Severity.CRITICAL,
        "Decisions are made, and the log stands still",
        f"{{{{ $labels.instance }}}} made {{{{ $value | humanize }}}} decisions within {window} and wrote no line.",
        settings.holds.steady,
    )  # fmt: skip
    yield Alert(
        "CreditScoringLogNotRotated",
        f"max by (job, instance) ({_LOG}_segment_age_seconds) > {limits.segment_age.seconds:g}", Severity.WARNING,
        "A segment of the decision log is not closed",
        "{{ $labels.instance }} has had a segment open for {{ $value | humanizeDuration }}.",
        settings.holds.settled,
    )  # fmt: skip
    yield Alert(
        "CreditScoringLogNotClosed",
        f"max by (job) ({_LOG}_unclosed_seconds) > {limits.unclosed_age.seconds:g}", Severity.WARNING,
        "Finished segments of the decision log are not closed",
        "The oldest has waited for {{ $value | humanizeDuration }}: `monitoring close` does not run, or fails.",
        settings.holds.settled,
    )  # fmt: skip
    yield Alert(
        "CreditScoringLogSetAside", f"max by (job) ({_LOG}_set_aside) > 0", Severity.WARNING,
        "Files were set aside from the decision log",
        "{{ $value | humanize }} files in the folder `aside` are no whole segments; decisions may be missing.",
        settings.holds.short,
    )  # fmt: skip
    yield Alert(
        "CreditScoringCountsPassedOver", "max by (job, instance) (credit_scoring_counts_passed_over) > 0",
        Severity.WARNING, "Counts of workers cannot be read",
        "{{ $labels.instance }} passes over {{ $value | humanize }} files beside its counts: drift may lack decisions.",
        settings.holds.short,
    )  # fmt: skip
