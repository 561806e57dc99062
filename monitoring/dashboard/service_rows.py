"""What the dashboard shows of the service: overview, traffic, latency, runner, decision log."""

from __future__ import annotations

from monitoring.alerting.recorded import QUANTILES, Recorded
from monitoring.alerting.settings import AlertingSettings
from monitoring.dashboard.kind import Kind
from monitoring.dashboard.panel import Panel, Query, Row, Unit

_JOB = '{job="$job"}'
_SINGLE = '{job="$job",endpoint="/predict"}'
_OVER = "$__rate_interval"
_LOG = "credit_scoring_decision_log"


def overview(settings: AlertingSettings) -> Row:
    """The figures to look at first."""
    rate, recent, baseline = settings.windows.rate, settings.windows.recent, settings.windows.baseline
    limits, recorded = settings.limits, Recorded(settings.windows)
    return Row(
        "Overview",
        (
            _number("Pods", "Pods that Prometheus can scrape.", f"sum(up{_JOB})"),
            _number(
                "Requests", "Answered per second, all endpoints.",
                f"sum({recorded.requests}{_JOB})", Unit.PER_SECOND,
            ),
            _number(
                "Errors", f"Share of scoring requests of {rate} answered with 5xx.",
                f"{recorded.errors}{_JOB}", Unit.SHARE, limits.error_ratio,
            ),
            _number(
                "p99 of /predict", "1 % of the answers take longer.",
                f"{recorded.latency(0.99)}{_SINGLE}", Unit.SECONDS, limits.p99_seconds,
            ),
            _number(
                "Mean PD", f"Of the decisions of {baseline}, all pods together.",
                f"{recorded.default_rate}{_JOB}", Unit.SHARE,
            ),
            _number(
                "Declined", f"Share of the decisions of {recent}.",
                f"{recorded.declines(recent)}{_JOB}", Unit.SHARE,
            ),
            _number(
                "Drifted features", "Of the last complete window, on the pod that has most.",
                f"max(credit_scoring_drifted_features{_JOB})", Unit.COUNT, 1,
            ),
            _number(
                "Alerts", "Firing now; one of them is the watchdog, which always does.",
                'count(ALERTS{alertname=~"CreditScoring.*",alertstate="firing"})', Unit.COUNT, 2,
            ),
        ),
    )  # fmt: skip


def traffic(settings: AlertingSettings) -> Row:
    """Requests, errors and overload."""
    limits, recorded = settings.limits, Recorded(settings.windows)
    return Row(
        "Traffic",
        (
            Panel(
                "Requests by endpoint", "Answered per second.",
                (Query(f"sum by (endpoint) ({recorded.requests}{_JOB})", "{{endpoint}}"),),
                Unit.PER_SECOND, stacked=True,
            ),
            Panel(
                "Requests by status", "Answered per second.",
                (Query(f"sum by (status) ({recorded.requests}{_JOB})", "{{status}}"),), Unit.PER_SECOND, stacked=True,
            ),
            Panel(
                "Failed, invalid, shed", "Shares of scoring requests: 5xx, 4xx, and refused for want of room.",
                (
                    Query(f"{recorded.errors}{_JOB}", "5xx"),
                    Query(f"{recorded.invalid}{_JOB}", "4xx"),
                    Query(f"{recorded.shed}{_JOB}", "shed"),
                ),
                Unit.SHARE, limits=(limits.error_ratio,),
            ),
        ),
    )  # fmt: skip


def latency(settings: AlertingSettings) -> Row:
    """How long answers take, and what is left of the promise."""
    burns, recorded = settings.objectives.burns, Recorded(settings.windows)
    buckets = f"sum by (le) (increase(credit_scoring_response_seconds_bucket{_SINGLE}[{_OVER}]))"
    windows = sorted({burn.long for burn in burns})
    return Row(
        "Latency",
        (
            Panel(
                "Quantiles", "Time from the headers of a request to the end of its answer.",
                tuple(
                    Query(f"{recorded.latency(quantile)}{_JOB}", f"p{quantile * 100:g} {{{{endpoint}}}}")
                    for quantile in QUANTILES
                ),
                Unit.SECONDS, limits=(settings.limits.p99_seconds,),
            ),
            Panel(
                "Times of /predict", "Answers by how long they took, in seconds.",
                (Query(buckets, "{{le}}"),), kind=Kind.HEATMAP,
            ),
            Panel(
                "Burn rates", "How many times as fast as it may the error budget is spent.",
                tuple(
                    Query(f"{burn(window)}{_JOB}", f"{name} {window}")
                    for name, burn in (
                        ("availability", recorded.availability_burn), ("latency", recorded.latency_burn),
                    )
                    for window in windows
                ),
                Unit.NONE, limits=(min(burn.factor for burn in burns), max(burn.factor for burn in burns)),
            ),
        ),
    )  # fmt: skip


def runner() -> Row:
    """How single requests are scored together."""
    size, wait = "credit_scoring_batch_size", "credit_scoring_queue_wait_seconds"
    mean = f"sum(rate({size}_sum{_JOB}[{_OVER}])) / sum(rate({size}_count{_JOB}[{_OVER}]))"
    waited = f"histogram_quantile(0.99, sum by (le) (rate({wait}_bucket{_JOB}[{_OVER}])))"
    return Row(
        "Runner",
        (
            Panel("Rows of a batch", "Mean number of single requests scored in one call.", (Query(mean, "mean"),)),
            Panel(
                "Batches by rows", "Calls of the model by how many single requests they scored.",
                (Query(f"sum by (le) (increase({size}_bucket{_JOB}[{_OVER}]))", "{{le}}"),), kind=Kind.HEATMAP,
            ),
            Panel(
                "Wait for a turn", "99th percentile of the longest wait in a batch.",
                (Query(waited, "p99"),), Unit.SECONDS,
            ),
        ),
    )  # fmt: skip


def decision_log(settings: AlertingSettings) -> Row:
    """Whether every decision is written down."""
    decided = f"sum(rate(credit_scoring_decisions_total{_JOB}[{_OVER}]))"
    lines = f"sum(rate({_LOG}_lines_total{_JOB}[{_OVER}]))"
    failures = f"sum by (reason) (rate({_LOG}_failures_total{_JOB}[{_OVER}]))"
    return Row(
        "Decision log",
        (
            Panel(
                "Decisions and lines", "Per second; the two are the same where every decision is written down.",
                (Query(decided, "decisions"), Query(lines, "lines")), Unit.COUNT,
            ),
            Panel("Lines lost or refused", "Per second, by reason.", (Query(failures, "{{reason}}"),)),
            Panel(
                "Age of the oldest segment", "A segment is closed when it is full or old.",
                (Query(f"max by (instance) ({_LOG}_segment_age_seconds{_JOB})", "{{instance}}"),), Unit.SECONDS,
                limits=(settings.limits.segment_age.seconds,),
            ),
        ),
    )  # fmt: skip


def _number(title: str, description: str, expr: str, unit: Unit = Unit.COUNT, limit: float | None = None) -> Panel:
    limits = () if limit is None else (limit,)
    return Panel(title, description, (Query(expr),), unit, Kind.NUMBER, width=3, height=4, limits=limits)
