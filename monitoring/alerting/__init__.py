"""The rules of Prometheus and the routes of Alertmanager, made from the settings."""

from __future__ import annotations

from .alertmanager import routes
from .duration import Duration
from .prometheus import ALERTS, RECORDINGS, alerting_rules, recording_rules, scraping
from .recorded import QUANTILES, Recorded
from .settings import AlertingSettings, Severity
from .thresholds import Thresholds

__all__ = [
    "ALERTS",
    "QUANTILES",
    "RECORDINGS",
    "AlertingSettings",
    "Duration",
    "Recorded",
    "Severity",
    "Thresholds",
    "alerting_rules",
    "recording_rules",
    "routes",
    "scraping",
]
