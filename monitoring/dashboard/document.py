"""The Grafana dashboard as a document, and the files by which Grafana finds it."""

from __future__ import annotations

from typing import Any

from monitoring.alerting.settings import AlertingSettings
from monitoring.alerting.thresholds import Thresholds
from monitoring.dashboard import model_rows, service_rows
from monitoring.dashboard.panel import laid_out

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_FIRING = 'ALERTS{alertname=~"CreditScoring.*",alertstate="firing",severity!="none"}'
_FOLDER = "/etc/grafana/dashboards"


def dashboard(settings: AlertingSettings, thresholds: Thresholds) -> dict[str, Any]:
    """The dashboard, as Grafana exports and imports it."""
    rows = (
        service_rows.overview(settings),
        service_rows.traffic(settings),
        service_rows.latency(settings),
        model_rows.decisions(settings),
        model_rows.drift(thresholds),
        model_rows.values(),
        model_rows.outcomes(settings, thresholds),
        service_rows.runner(),
        service_rows.decision_log(settings),
    )
    return {
        "uid": "credit-scoring",
        "title": "Credit scoring",
        "description": "Traffic, latency, decisions, drift, outcomes and the decision log of the scoring service.",
        "tags": ["credit-scoring"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasources(), _jobs(settings)]},
        "annotations": {"list": [_alerts()]},
        "links": [],
        "panels": laid_out(rows),
    }


def datasource(address: str) -> dict[str, Any]:
    """provisioning/datasources: where Prometheus is."""
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "url": address, "isDefault": True}
    return {"apiVersion": 1, "datasources": [source]}


def provider() -> dict[str, Any]:
    """provisioning/dashboards: where dashboard.json is."""
    folder = {"name": "credit-scoring", "type": "file", "options": {"path": _FOLDER}}
    return {"apiVersion": 1, "providers": [folder]}


def _datasources() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus"}


def _jobs(settings: AlertingSettings) -> dict[str, Any]:
    return {
        "name": "job",
        "type": "query",
        "label": "Job",
        "datasource": _DATASOURCE,
        "query": {"query": "label_values(credit_scoring_model_info, job)", "refId": "jobs"},
        "refresh": 2,
        "current": {"text": settings.job, "value": settings.job},
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": _DATASOURCE,
        "target": {"refId": "Anno", "expr": _FIRING},
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}}",
    }
