"""What the dashboard shows of the model: decisions, drift, missing and unseen values, outcomes."""

from __future__ import annotations

from monitoring.alerting.recorded import Recorded
from monitoring.alerting.settings import AlertingSettings
from monitoring.alerting.thresholds import Thresholds
from monitoring.dashboard.kind import Kind
from monitoring.dashboard.panel import Panel, Query, Row, Unit

_JOB = '{job="$job"}'
_OVER = "$__rate_interval"
_MOST = 12
_PERFORMANCE = "credit_scoring_performance"


def decisions(settings: AlertingSettings) -> Row:
    """What is decided, by which model."""
    windows, recorded = settings.windows, Recorded(settings.windows)
    scored = f"sum by (model_version) (rate(credit_scoring_applications_total{_JOB}[{_OVER}]))"
    buckets = f"sum by (le) (increase(credit_scoring_probability_bucket{_JOB}[{_OVER}]))"
    return Row(
        "Decisions",
        (
            Panel(
                "Decisions", "Per second, by outcome.",
                (Query(f"sum by (decision) ({recorded.decided}{_JOB})", "{{decision}}"),), stacked=True,
            ),
            Panel(
                "Risk levels", "Decisions per second.",
                (Query(f"sum by (risk_level) ({recorded.decided}{_JOB})", "{{risk_level}}"),), stacked=True,
            ),
            Panel(
                "PD", "Applications by their probability of default.",
                (Query(buckets, "{{le}}"),), kind=Kind.HEATMAP,
            ),
            Panel(
                "Share of declines", "Of the recent decisions, and of those of the days before.",
                tuple(
                    Query(f"{recorded.declines(window)}{_JOB}", str(window))
                    for window in (windows.recent, windows.baseline)
                ),
                Unit.SHARE,
            ),
            Panel("Applications by model", "Scored per second.", (Query(scored, "{{model_version}}"),), stacked=True),
            Panel(
                "Models", "What is served, and on how many pods.",
                (Query(f"count by (model, version, digest) (credit_scoring_model_info{_JOB})"),), kind=Kind.TABLE,
            ),
        ),
    )  # fmt: skip


def drift(thresholds: Thresholds) -> Row:
    """How the last complete window differs from the training data."""
    limits = (thresholds.moderate, thresholds.major)
    worst = f"topk({_MOST}, max by (feature) (credit_scoring_drift_psi{_JOB}))"
    age = f"time() - max(credit_scoring_drift_window_end_timestamp_seconds{_JOB})"
    return Row(
        "Drift",
        (
            Panel(
                "Score", "PSI of the PD, for each pod.",
                (Query(f"credit_scoring_drift_score_psi{_JOB}", "{{instance}}"),), Unit.NONE, limits=limits,
            ),
            Panel(
                "Features", f"The {_MOST} largest PSI, on the pod where each is largest.",
                (Query(worst, "{{feature}}"),), Unit.NONE, Kind.BARS, limits=limits,
            ),
            Panel(
                "Drifted features", "Material, and significant for the size of the window.",
                (Query(f"credit_scoring_drifted_features{_JOB}", "{{instance}}"),),
            ),
            Panel(
                "Rows of the window", "On which the figures above rest.",
                (Query(f"credit_scoring_drift_window_rows{_JOB}", "{{instance}}"),),
            ),
            Panel("Age of the window", "Since the last one was complete.", (Query(age, "age"),), Unit.SECONDS),
            Panel(
                "Checks of your own", "What they found in the last window.",
                (Query(f"credit_scoring_drift_check{_JOB}", "{{check}} {{instance}}"),), Unit.NONE,
            ),
        ),
    )  # fmt: skip


def values() -> Row:
    """Values that are not there, and categories that the model does not know."""
    return Row(
        "Missing and unseen",
        tuple(
            Panel(
                title, description,
                (Query(f"topk({_MOST}, max by (feature) (credit_scoring_feature_{kind}_ratio{_JOB}))", "{{feature}}"),),
                Unit.SHARE, Kind.BARS, width=12,
            )
            for kind, title, description in (
                ("missing", "Missing values", f"The {_MOST} features that are missing most often."),
                ("unseen", "Unseen categories", f"The {_MOST} features with most values that training did not see."),
            )
        ),
    )  # fmt: skip


def outcomes(settings: AlertingSettings, thresholds: Thresholds) -> Row:
    """Predicted and observed defaults; what is observed comes from the performance job."""
    expected = f"{Recorded(settings.windows).default_rate}{_JOB}"
    return Row(
        "Outcomes",
        (
            Panel(
                "Default rate", "Mean PD of the decisions of the last days, and of those with matured outcomes.",
                (
                    Query(expected, f"expected, {settings.windows.baseline}"),
                    Query(f"{_PERFORMANCE}_default_rate", "{{kind}}, matured"),
                ),
                Unit.SHARE,
            ),
            Panel(
                "Calibration by risk level", "Expected and observed default rate of matured decisions.",
                (Query(f"{_PERFORMANCE}_level_default_rate", "{{risk_level}} {{kind}}"),),
                Unit.SHARE, Kind.BARS,
            ),
            Panel(
                "AUC", "On matured outcomes, with its interval.",
                (
                    Query(f"{_PERFORMANCE}_auc", "AUC"),
                    Query(f"{_PERFORMANCE}_auc_lower", "lower end"),
                    Query(f"{_PERFORMANCE}_auc_upper", "upper end"),
                ),
                Unit.NONE, limits=(thresholds.floor,),
            ),
        ),
    )  # fmt: skip
