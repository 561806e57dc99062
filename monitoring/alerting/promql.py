"""Pieces of PromQL that several rules are made of."""

from __future__ import annotations

from monitoring.alerting.duration import Duration

SINGLE = 'endpoint=~"/predict|/predict/features|/explain"'
"""Matches the routes that answer one application."""
BATCH = 'endpoint="/predict/batch"'
SCORING = 'endpoint=~"/predict|/predict/features|/predict/batch|/explain"'

REQUESTS = "credit_scoring_requests_total"
SECONDS = "credit_scoring_response_seconds"
SHED = "credit_scoring_requests_shed_total"
DECISIONS = "credit_scoring_decisions_total"


def rate(metric: str, window: Duration, matchers: str = "", by: str = "job") -> str:
    """Events per second over the window, added up over pods."""
    return f"sum by ({by}) (rate({metric}{_braced(matchers)}[{window}]))"


def increase(metric: str, window: Duration, matchers: str = "", by: str = "job") -> str:
    """Events within the window, added up over pods."""
    return f"sum by ({by}) (increase({metric}{_braced(matchers)}[{window}]))"


def or_zero(part: str, whole: str) -> str:
    """The part of a whole, which is 0 where no such series has begun yet."""
    return f"({part} or {whole} * 0)"


def share(part: str, whole: str) -> str:
    """Part of whole: 0 where the part has no series, NaN where the whole is 0."""
    return f"{or_zero(part, whole)} / {whole}"


def happened(metric: str, window: Duration, by: str) -> str:
    """Events within the window, where there were any.

    `increase` does not see the event with which a series begins. It is counted where the target was scraped before, so
    that what a Prometheus finds at its first scrape is not taken for new.
    """
    begun = f"{metric} unless {metric} offset {window} and on (job, instance) up offset {window}"
    return f"sum by ({by}) (increase({metric}[{window}]) > 0 or ({begun}) > 0)"


def bucket(bound: float) -> str:
    """Matches a histogram's bucket by its upper bound, as any Prometheus writes it.

    >>> bucket(0.1), bucket(1.0)
    ('le="0.1"', 'le=~"1(\\\\.0)?"')
    """
    return f'le=~"{bound:.0f}(\\.0)?"' if bound == int(bound) else f'le="{bound}"'


def _braced(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
