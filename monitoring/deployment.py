"""The files of deploy/ that are made from the settings, as text by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monitoring.alerting.alertmanager import routes
from monitoring.alerting.prometheus import ALERTS, RECORDINGS, alerting_rules, recording_rules, scraping
from monitoring.alerting.thresholds import Thresholds
from monitoring.dashboard.document import dashboard, datasource, provider
from monitoring.errors import ReportError
from monitoring.settings import MonitoringSettings

_HEAD = "# Made by `python -m monitoring {}` from configs/monitoring.yaml.\n"
_PROMETHEUS = "http://127.0.0.1:9090"


def prometheus_files(settings: MonitoringSettings) -> dict[str, str]:
    """What Prometheus and Alertmanager read."""
    alerting = settings.alerting
    documents = {
        "prometheus.yml": scraping(alerting),
        RECORDINGS: recording_rules(alerting),
        ALERTS: alerting_rules(alerting, _thresholds(settings)),
        "alertmanager.yml": routes(alerting),
    }
    return {name: _yaml(document, "rules") for name, document in documents.items()}


def grafana_files(settings: MonitoringSettings) -> dict[str, str]:
    """The dashboard, and how Grafana finds it and Prometheus."""
    return {
        "dashboards/credit_scoring.json": json.dumps(_dashboard(settings), indent=2) + "\n",
        "provisioning/dashboards/credit_scoring.yml": _yaml(provider(), "dashboard"),
        "provisioning/datasources/prometheus.yml": _yaml(datasource(_PROMETHEUS), "dashboard"),
    }


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files, each of them whole or not at all; ReportError if one cannot be written."""
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f".{path.name}.{os.getpid()}")
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(path)
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written ({error.strerror})") from None


def _dashboard(settings: MonitoringSettings) -> dict[str, Any]:
    return dashboard(settings.alerting, _thresholds(settings))


def _thresholds(settings: MonitoringSettings) -> Thresholds:
    psi = settings.drift.psi
    return Thresholds(moderate=psi.moderate, major=psi.major, floor=settings.performance.min_auc)


def _yaml(document: dict[str, Any], command: str) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return _HEAD.format(command) + text
