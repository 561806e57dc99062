"""The bodies that receivers read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monitoring.notification.alarm import Alarm
from monitoring.notification.settings import Format

_COLOURS = {"critical": "danger", "warning": "warning"}
_NEVER = "0001-01-01T00:00:00Z"


def message(alarm: Alarm, format: Format, *, began: datetime, now: datetime) -> dict[str, Any]:  # noqa: A002
    """The alarm, which began and is told of at the given times, as the receiver reads it."""
    return _slack(alarm) if format is Format.SLACK else _alertmanager(alarm, began, now)


def _slack(alarm: Alarm) -> dict[str, Any]:
    """https://api.slack.com/reference/messaging/attachments"""
    head = f"[{alarm.status.upper()}] {alarm.name}: {alarm.summary}"
    fields = [{"title": name, "value": value, "short": True} for name, value in _labels(alarm).items()]
    colour = _COLOURS.get(alarm.severity, "#439FE0") if alarm.firing else "good"
    attachment = {"color": colour, "fallback": head, "text": alarm.description, "fields": fields}
    return {"text": head, "attachments": [attachment]}


def _alertmanager(alarm: Alarm, began: datetime, now: datetime) -> dict[str, Any]:
    """https://prometheus.io/docs/alerting/latest/configuration/#webhook_config"""
    labels = {"alertname": alarm.name, **_labels(alarm)}
    annotations = {"summary": alarm.summary, "description": alarm.description}
    alert = {
        "status": alarm.status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": began.isoformat(),
        "endsAt": _NEVER if alarm.firing else now.isoformat(),
        "generatorURL": "",
        "fingerprint": alarm.key,
    }
    return {
        "version": "4",
        "groupKey": alarm.key,
        "truncatedAlerts": 0,
        "status": alarm.status,
        "receiver": "monitoring",
        "groupLabels": {"alertname": alarm.name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [alert],
    }


def _labels(alarm: Alarm) -> dict[str, str]:
    return {"severity": alarm.severity, **alarm.labels}
