"""The recording rules: what alerts and dashboard ask for, computed once. All of them add up every pod of a job."""

from __future__ import annotations

from collections.abc import Iterator

from .duration import Duration
from .promql import DECISIONS, REQUESTS, SCORING, SECONDS, SHED, SINGLE, bucket, increase, or_zero, rate, share
from .rule import Recording
from .settings import AlertingSettings, Objectives

QUANTILES = (0.5, 0.9, 0.99)
_PROBABILITY = "credit_scoring_probability"
_ERRORS = f'{SCORING},status=~"5.."'
_INVALID = f'{SCORING},status=~"4.."'


def traffic(settings: AlertingSettings) -> list[Recording]:
    """Rates, errors and latencies over the short window."""
    window = settings.windows.rate
    answered = rate(REQUESTS, window, SCORING)
    shed = rate(SHED, window)
    return [
        Recording(requests(window), rate(REQUESTS, window, by="job, endpoint, status")),
        Recording(errors(window), share(rate(REQUESTS, window, _ERRORS), answered)),
        Recording(invalid(window), share(rate(REQUESTS, window, _INVALID), answered)),
        Recording(shed_ratio(window), share(shed, answered)),
        *(Recording(latency(quantile, window), _quantile(quantile, window)) for quantile in QUANTILES),
    ]


def burning(settings: AlertingSettings) -> list[Recording]:
    """How many times as fast as it may the error budget is spent, over every window that an alert looks at."""
    objectives = settings.objectives
    windows = sorted({window for burn in objectives.burns for window in (burn.short, burn.long)})
    return [
        *(Recording(availability_burn(window), _availability(objectives, window)) for window in windows),
        *(Recording(latency_burn(window), _slowness(objectives, window)) for window in windows),
    ]


def decisions(settings: AlertingSettings) -> list[Recording]:
    """What is decided, and how that compares with the days before."""
    windows = settings.windows
    return [
        Recording(decided(windows.rate), rate(DECISIONS, windows.rate, by="job, decision, risk_level")),
        *_shares(settings),
    ]


def _shares(settings: AlertingSettings) -> Iterator[Recording]:
    recent, baseline = settings.windows.recent, settings.windows.baseline
    yield Recording(decision_count(recent), increase(DECISIONS, recent))
    for window in (recent, baseline):
        declined = increase(DECISIONS, window, 'decision="decline"')
        yield Recording(declines(window), share(declined, increase(DECISIONS, window)))
    total, count = (increase(f"{_PROBABILITY}_{part}", baseline) for part in ("sum", "count"))
    yield Recording(default_rate(baseline), f"{total} / {count}")


def requests(window: Duration) -> str:
    """Requests per second, by endpoint and status."""
    return f"job_endpoint_status:credit_scoring_requests:rate{window}"


def errors(window: Duration) -> str:
    """Share of scoring requests that were answered with 5xx."""
    return f"job:credit_scoring_errors:ratio_rate{window}"


def invalid(window: Duration) -> str:
    """Share of scoring requests that were answered with 4xx."""
    return f"job:credit_scoring_invalid:ratio_rate{window}"


def shed_ratio(window: Duration) -> str:
    """Share of scoring requests that were refused for want of room."""
    return f"job:credit_scoring_shed:ratio_rate{window}"


def latency(quantile: float, window: Duration) -> str:
    """Quantile of the time to an answer, in seconds, by endpoint."""
    return f"job_endpoint:credit_scoring_response_seconds:p{quantile * 100:g}_rate{window}"


def availability_burn(window: Duration) -> str:
    """Burn rate of the availability objective."""
    return f"job:credit_scoring_availability:burnrate{window}"


def latency_burn(window: Duration) -> str:
    """Burn rate of the latency objective."""
    return f"job:credit_scoring_latency:burnrate{window}"


def decided(window: Duration) -> str:
    """Decisions per second, by outcome and risk level."""
    return f"job_decision_risk_level:credit_scoring_decisions:rate{window}"


def decision_count(window: Duration) -> str:
    """Decisions within the window."""
    return f"job:credit_scoring_decisions:increase{window}"


def declines(window: Duration) -> str:
    """Share of declines among the decisions of the window."""
    return f"job:credit_scoring_declines:ratio_increase{window}"


def default_rate(window: Duration) -> str:
    """Mean PD of the decisions of the window."""
    return f"job:credit_scoring_default_rate:mean{window}"


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
