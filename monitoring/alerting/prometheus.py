"""The files that Prometheus reads: its configuration, recording rules and alerting rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitoring.alerting.model_alerts import model_alerts
from monitoring.alerting.recordings import burning, decisions, traffic
from monitoring.alerting.rule import Alert, Recording
from monitoring.alerting.service_alerts import service_alerts
from monitoring.alerting.settings import AlertingSettings
from monitoring.alerting.thresholds import Thresholds

RECORDINGS = "recording.rules.yml"
ALERTS = "alerting.rules.yml"


def scraping(settings: AlertingSettings) -> dict[str, Any]:
    """prometheus.yml: whom to scrape, which rules to evaluate, whom to tell."""
    interval = str(settings.scrape_interval)
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [RECORDINGS, ALERTS],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(settings.alertmanagers)}]}]},
        "scrape_configs": [_job(settings)],
    }


def _job(settings: AlertingSettings) -> dict[str, Any]:
    job = {"job_name": settings.job, "static_configs": [{"targets": list(settings.targets)}]}
    if settings.credentials_file is None:
        return job
    return {**job, "authorization": {"type": "Bearer", "credentials_file": settings.credentials_file}}


def recording_rules(settings: AlertingSettings) -> dict[str, Any]:
    """recording.rules.yml."""
    groups = {"traffic": traffic(settings), "burning": burning(settings), "decisions": decisions(settings)}
    return {"groups": [_recording(name, rules) for name, rules in groups.items()]}


def alerting_rules(settings: AlertingSettings, thresholds: Thresholds) -> dict[str, Any]:
    """alerting.rules.yml."""
    groups = {"service": service_alerts(settings), "model": model_alerts(settings, thresholds)}
    return {"groups": [_alerting(name, alerts, settings.runbook) for name, alerts in groups.items()]}


def _recording(name: str, rules: Sequence[Recording]) -> dict[str, Any]:
    return {"name": f"credit_scoring_{name}", "rules": [rule.document() for rule in rules]}


def _alerting(name: str, alerts: Sequence[Alert], runbook: str) -> dict[str, Any]:
    return {"name": f"credit_scoring_{name}_alerts", "rules": [alert.document(runbook) for alert in alerts]}
