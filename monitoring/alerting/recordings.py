"""The recording rules: what alerts and dashboard ask for, computed once. All of them add up every pod of a job."""

from __future__ import annotations

from monitoring.alerting.duration import Duration
from monitoring.alerting.promql import (
    DECISIONS,
    REQUESTS,
    SCORING,
    SECONDS,
    SHED,
    SINGLE,
    bucket,
    increase,
    or_zero,
    rate,
    share,
)
from monitoring.alerting.recorded import QUANTILES, Recorded
from monitoring.alerting.rule import Recording
from monitoring.alerting.settings import AlertingSettings, Objectives

_PROBABILITY = "credit_scoring_probability"
_ERRORS = f'{SCORING},status=~"5.."'
_INVALID = f'{SCORING},status=~"4.."'


def traffic(settings: AlertingSettings) -> list[Recording]:
    """Rates, errors and latencies over the short window."""
    window, recorded = settings.windows.rate, Recorded(settings.windows)
    answered = rate(REQUESTS, window, SCORING)
    return [
        Recording(recorded.requests, rate(REQUESTS, window, by="job, endpoint, status")),
        Recording(recorded.errors, share(rate(REQUESTS, window, _ERRORS), answered)),
        Recording(recorded.invalid, share(rate(REQUESTS, window, _INVALID), answered)),
        Recording(recorded.shed, share(rate(SHED, window), answered)),
        *(Recording(recorded.latency(quantile), _quantile(quantile, window)) for quantile in QUANTILES),
    ]


def burning(settings: AlertingSettings) -> list[Recording]:
    """How many times as fast as it may the error budget is spent, over every window that an alert looks at."""
    objectives, recorded = settings.objectives, Recorded(settings.windows)
    windows = sorted({window for burn in objectives.burns for window in (burn.short, burn.long)})
    return [
        *(Recording(recorded.availability_burn(window), _availability(objectives, window)) for window in windows),
        *(Recording(recorded.latency_burn(window), _slowness(objectives, window)) for window in windows),
    ]


def decisions(settings: AlertingSettings) -> list[Recording]:
    """What is decided, and how that compares with the days before."""
    windows, recorded = settings.windows, Recorded(settings.windows)
    return [
        Recording(recorded.decided, rate(DECISIONS, windows.rate, by="job, decision, risk_level")),
        Recording(recorded.decision_count, increase(DECISIONS, windows.recent)),
        *(Recording(recorded.declines(window), _declines(window)) for window in (windows.recent, windows.baseline)),
        Recording(recorded.default_rate, _mean_probability(windows.baseline)),
    ]


def _declines(window: Duration) -> str:
    return share(increase(DECISIONS, window, 'decision="decline"'), increase(DECISIONS, window))


def _mean_probability(window: Duration) -> str:
    return f"{increase(f'{_PROBABILITY}_sum', window)} / {increase(f'{_PROBABILITY}_count', window)}"


def _quantile(quantile: float, window: Duration) -> str:
    return f"histogram_quantile({quantile}, {rate(f'{SECONDS}_bucket', window, SCORING, by='job, endpoint, le')})"


def _availability(objectives: Objectives, window: Duration) -> str:
    failing = share(rate(REQUESTS, window, _ERRORS), rate(REQUESTS, window, SCORING))
    return f"{failing} / {_budget(objectives.availability)}"


def _slowness(objectives: Objectives, window: Duration) -> str:
    answered = rate(f"{SECONDS}_count", window, SINGLE)
    fast = rate(f"{SECONDS}_bucket", window, f"{SINGLE},{bucket(objectives.latency_seconds)}")
    return f"(1 - {or_zero(fast, answered)} / {answered}) / {_budget(objectives.latency_share)}"


def _budget(objective: float) -> str:
    """What may go wrong, without the last digits of binary arithmetic."""
    return f"{1 - objective:.10g}"
