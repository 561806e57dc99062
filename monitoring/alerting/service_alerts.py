"""The alerts on the service as a service: up, right, fast, deciding, and letting in whom it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from monitoring.alerting.duration import Duration
from monitoring.alerting.promql import DECISIONS, REQUESTS, SCORING, happened, rate
from monitoring.alerting.recorded import Recorded
from monitoring.alerting.rule import Alert
from monitoring.alerting.settings import AlertingSettings, Burn, Severity

_INFO = "credit_scoring_model_info"


def service_alerts(settings: AlertingSettings) -> list[Alert]:
    """Scraping, errors, latency, overload, requests without decisions, models, API keys, and threads."""
    return [
        *_scraping(settings),
        *_failing(settings),
        *_slow(settings),
        *_burns(settings),
        *_versions(settings),
        _keys(settings),
        *_threads(settings),
    ]


def _scraping(settings: AlertingSettings) -> Iterator[Alert]:
    up = f'up{{job="{settings.job}"}}'
    yield Alert(
        "CreditScoringAbsent", f"absent({up} == 1)", Severity.CRITICAL,
        "No pod of the service can be scraped",
        "Prometheus knows of no pod of {{ $labels.job }} that answers.",
        settings.holds.short,
    )  # fmt: skip
    yield Alert(
        "CreditScoringDown", f"{up} == 0", Severity.WARNING,
        "A pod of the service cannot be scraped",
        "{{ $labels.instance }} of {{ $labels.job }} does not answer Prometheus.",
        settings.holds.short,
    )  # fmt: skip
    yield Alert(
        "CreditScoringWatchdog", "vector(1)", Severity.NONE,
        "The alerting works",
        "Always fires. A receiver that no longer hears of it knows that Prometheus or Alertmanager is down.",
    )  # fmt: skip


def _failing(settings: AlertingSettings) -> Iterator[Alert]:
    window, limits, holds = settings.windows.rate, settings.limits, settings.holds
    recorded = Recorded(settings.windows)
    yield Alert(
        "CreditScoringErrors", f"{recorded.errors} > {limits.error_ratio:g}", Severity.CRITICAL,
        "Scoring requests fail",
        f"{{{{ $value | humanizePercentage }}}} of the scoring requests of {window} were answered with 5xx.",
        holds.steady,
    )  # fmt: skip
    yield Alert(
        "CreditScoringShedding", f"{recorded.shed} > {limits.shed_ratio:g}", Severity.WARNING,
        "Requests are refused for want of room",
        f"{{{{ $value | humanizePercentage }}}} of the scoring requests of {window} were answered with 503 at once.",
        holds.steady,
    )  # fmt: skip
    yield Alert(
        "CreditScoringInvalidRequests", f"{recorded.invalid} > {limits.invalid_ratio:g}", Severity.WARNING,
        "Many requests are invalid",
        f"{{{{ $value | humanizePercentage }}}} of the scoring requests of {window} were answered with 4xx.",
        holds.settled,
    )  # fmt: skip
    answered = rate(REQUESTS, window, SCORING)
    yield Alert(
        "CreditScoringNoDecisions", f"{answered} > 0 unless {rate(DECISIONS, window)} > 0", Severity.CRITICAL,
        "Requests come, and nothing is decided",
        f"{{{{ $value | humanize }}}} scoring requests per second over {window}, and not one decision.",
        holds.steady,
    )  # fmt: skip


def _slow(settings: AlertingSettings) -> Iterator[Alert]:
    p99, limits = Recorded(settings.windows).latency(0.99), settings.limits
    for kind, negation, seconds in (("single", "!", limits.p99_seconds), ("batch", "", limits.batch_p99_seconds)):
        yield Alert(
            "CreditScoringSlow", f'{p99}{{endpoint{negation}="/predict/batch"}} > {seconds:g}', Severity.WARNING,
            "Answers take long",
            f"1 % of the answers of {{{{ $labels.endpoint }}}} take longer than {{{{ $value | humanizeDuration }}}}; "
            f"the limit is {seconds:g} s.",
            settings.holds.steady, labels={"requests": kind},
        )  # fmt: skip


def _burns(settings: AlertingSettings) -> Iterator[Alert]:
    recorded = Recorded(settings.windows)
    for burn in settings.objectives.burns:
        yield _burn(burn, "Availability", recorded.availability_burn)
        yield _burn(burn, "Latency", recorded.latency_burn)


def _burn(burn: Burn, objective: str, recorded: Callable[[Duration], str]) -> Alert:
    return Alert(
        f"CreditScoring{objective}Burn",
        f"{recorded(burn.long)} > {burn.factor:g} and {recorded(burn.short)} > {burn.factor:g}", burn.severity,
        f"The error budget of the {objective.lower()} objective is being spent",
        f"It goes {{{{ $value | humanize }}}} times as fast as it may, over {burn.long} and over {burn.short}.",
        labels={"window": str(burn.long)},
    )  # fmt: skip


def _versions(settings: AlertingSettings) -> Iterator[Alert]:
    served, window = f"group by (job, digest) ({_INFO})", settings.windows.recent
    before = f"group by (job, digest) ({_INFO} offset {window})"
    yield Alert(
        "CreditScoringModelsDisagree", f"count by (job) ({served}) > 1", Severity.WARNING,
        "Pods answer with different models",
        "{{ $value }} models are served at once, for longer than a rollout takes.",
        settings.holds.settled,
    )  # fmt: skip
    yield Alert(
        "CreditScoringModelChanged", f"{served} unless {before} and on (job) {before}", Severity.INFO,
        "Another model answers",
        f"The model with the digest {{{{ $labels.digest }}}} was not served {window} ago.",
    )  # fmt: skip


def _keys(settings: AlertingSettings) -> Alert:
    return Alert(
        "CreditScoringKeysStale", "credit_scoring_keys_stale == 1", Severity.WARNING,
        "The file of API keys cannot be read",
        "{{ $labels.instance }} goes on with the keys it has read before: what was revoked since is still let in.",
        settings.holds.short,
    )  # fmt: skip


def _threads(settings: AlertingSettings) -> Iterator[Alert]:
    window, limits = settings.windows.rate, settings.limits
    yield Alert(
        "CreditScoringThreadStopped",
        f"time() - credit_scoring_thread_heartbeat_timestamp_seconds > {limits.thread_age.seconds:g}",
        Severity.CRITICAL,
        "A thread of the service does its work no longer",
        "The thread {{ $labels.thread }} of {{ $labels.instance }} last did its work {{ $value | humanizeDuration }} "
        "ago.",
        settings.holds.short,
    )  # fmt: skip
    failures = happened("credit_scoring_thread_failures_total", window, by="job, instance, thread")
    yield Alert(
        "CreditScoringThreadFailing", failures, Severity.WARNING,
        "A thread of the service fails and goes on",
        f"The thread {{{{ $labels.thread }}}} of {{{{ $labels.instance }}}} failed {{{{ $value | humanize }}}} times "
        f"within {window}.",
    )  # fmt: skip
