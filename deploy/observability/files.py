"""The files of deploy/ that are made from the templates, as text by path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from deploy.errors import DeployError
from deploy.observability.settings import Observed
from jobs.output import write_text

RULES = ("recording.rules.yml", "alerting.rules.yml")
PROMETHEUS = ("prometheus.yml", *RULES, "alertmanager.yml")
DASHBOARD = "grafana/dashboards/credit_scoring.json"
OPERATOR = "kubernetes/base/prometheus-rule.yaml"
OUTPUTS = (*(f"prometheus/{name}" for name in PROMETHEUS), DASHBOARD, OPERATOR)
"""Paths below deploy/."""

TEMPLATES = Path(__file__).resolve().parent / "templates"
_HEAD = "# Made by `python -m deploy.observability` from deploy/observability/templates and configs/monitoring.yaml.\n"
_SINGLE = 'endpoint=~"/predict|/predict/features|/explain"'
_SCORING = 'endpoint=~"/predict|/predict/features|/predict/batch|/explain"'
_DATASOURCE = "${datasource}"  # a variable of Grafana's, in the delimiters of the templates
_COLUMNS = 24


def rendered(observed: Observed, templates: Path = TEMPLATES) -> dict[str, str]:
    """Every output by its path; DeployError if a template cannot be filled in."""
    documents = {name: _document(name, observed, templates) for name in PROMETHEUS}
    _point_to(observed.alerting.runbook, documents["alerting.rules.yml"])
    groups = [group for name in sorted(RULES) for group in documents[name]["groups"]]
    operator = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "credit-scoring"},
        "spec": {"groups": groups},
    }
    return {
        **{f"prometheus/{name}": _yaml(document) for name, document in documents.items()},
        DASHBOARD: json.dumps(dashboard(_document("dashboard.yml", observed, templates)), indent=2) + "\n",
        OPERATOR: _yaml(operator),
    }


def written(files: dict[str, str], folder: Path) -> None:
    """Write the files, each of them whole or not at all; OutputError if one cannot be written."""
    for name, text in files.items():
        write_text(folder / name, text, parents=True)


def dashboard(written: dict[str, Any]) -> dict[str, Any]:
    """The dashboard as Grafana imports it, from its template: panels from left to right and from top to bottom."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in written["rows"]:
        panels.append(_heading(row["title"], len(panels) + 1, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row["panels"]:
            width, height = panel.get("width", 8), panel.get("height", 8)
            if x + width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            place = {"x": x, "y": y, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, **_panel(panel, written["options"]), "gridPos": place})
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return {**written["document"], "panels": panels}


def _heading(title: str, number: int, y: int) -> dict[str, Any]:
    grid = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}


def _panel(panel: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    return {
        "type": kind,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": _source(),
        "targets": [_target(query, chr(ord("A") + i), kind) for i, query in enumerate(panel["queries"])],
        "fieldConfig": {"defaults": _defaults(panel, kind), "overrides": []},
        "options": options[kind],
    }


def _target(query: dict[str, str], letter: str, kind: str) -> dict[str, Any]:
    at_once = kind in {"table", "bargauge"}
    return {
        "refId": letter,
        "datasource": _source(),
        "editorMode": "code",
        "expr": query["expr"],
        "legendFormat": query.get("legend", "__auto"),
        "format": kind if kind in {"heatmap", "table"} else "time_series",
        "instant": at_once,
        "range": not at_once,
    }


def _defaults(panel: dict[str, Any], kind: str) -> dict[str, Any]:
    limits, stacked = panel.get("limits", []), panel.get("stacked", False)
    colours = ("green", "yellow", "red") if len(limits) > 1 else ("green", "red")
    steps = [{"color": c, "value": v} for c, v in zip(colours, (None, *limits), strict=False)]
    defaults = {"unit": panel.get("unit", "short"), "thresholds": {"mode": "absolute", "steps": steps}}
    drawing = {
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 5,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if limits else "off"},
    }
    return {**defaults, "custom": drawing} if kind == "timeseries" else defaults


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": _DATASOURCE}


def _document(name: str, observed: Observed, templates: Path) -> dict[str, Any]:
    environment = Environment(
        loader=FileSystemLoader(templates), undefined=StrictUndefined, autoescape=False,  # noqa: S701 - YAML, no HTML
        variable_start_string="${", variable_end_string="}", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>", line_statement_prefix="%%",
        finalize=lambda value: f"{value:g}" if isinstance(value, float) else value,
    )  # fmt: skip
    try:
        text = environment.get_template(name).render(**dict(_values(observed)))
        document: dict[str, Any] = yaml.safe_load(text)
    except (TemplateError, yaml.YAMLError) as error:
        raise DeployError(f"{templates / name}: {' '.join(str(error).split())}") from None
    return document


def _values(observed: Observed) -> Iterator[tuple[str, Any]]:
    alerting, objectives = observed.alerting, observed.alerting.objectives
    yield from ((name, getattr(alerting, name)) for name in type(alerting).model_fields)
    yield "psi", {"moderate": observed.moderate, "major": observed.major}
    yield "min_auc", observed.min_auc
    yield "scoring", _SCORING
    yield "single", _SINGLE
    yield "fast", _bucket(objectives.latency_seconds)
    yield "burn_windows", sorted({window for burn in objectives.burns for window in (burn.short, burn.long)})
    yield "long_windows", sorted({burn.long for burn in objectives.burns})
    # without the last digits of binary arithmetic
    budgets = {"availability": 1 - objectives.availability, "latency": 1 - objectives.latency_share}
    yield "budgets", {name: f"{budget:.10g}" for name, budget in budgets.items()}
    yield "datasource", _DATASOURCE


def _bucket(bound: float) -> str:
    """Matches a histogram's bucket by its upper bound, as any Prometheus writes it: le="0.1", le=~"1(\\.0)?"."""
    return f'le=~"{bound:.0f}(\\.0)?"' if bound == int(bound) else f'le="{bound}"'


def _point_to(runbook: str, rules: dict[str, Any]) -> None:
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["annotations"]["runbook_url"] = f"{runbook}#{rule['alert'].lower()}"


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return _HEAD + text
