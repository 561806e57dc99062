"""Panels of a Grafana dashboard, and how they are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitoring.dashboard.kind import Kind

COLUMNS = 24
"""Width of a dashboard."""
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Unit(StrEnum):
    """Grafana's name of a unit."""

    NONE = "none"
    COUNT = "short"
    SHARE = "percentunit"
    SECONDS = "s"
    PER_SECOND = "reqps"


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes
    ----------
    width, height : in units of the grid, which is 24 wide
    limits : values from which the panel turns yellow, and then red
    stacked : lines are added up
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    limits: tuple[float, ...] = ()
    stacked: bool = False

    def document(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana reads it."""
        return {
            "id": number,
            "type": self.kind.value,
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(query, chr(ord("A") + i)) for i, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self.kind.options,
        }

    def _target(self, query: Query, letter: str) -> dict[str, Any]:
        return {
            "refId": letter,
            "datasource": _DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "format": self.kind.value if self.kind in {Kind.HEATMAP, Kind.TABLE} else "time_series",
            "instant": self.kind in {Kind.TABLE, Kind.BARS},
            "range": self.kind not in {Kind.TABLE, Kind.BARS},
        }

    def _defaults(self) -> dict[str, Any]:
        colours = ("green", "yellow", "red") if len(self.limits) > 1 else ("green", "red")
        steps = zip(colours, (None, *self.limits), strict=False)
        defaults: dict[str, Any] = {
            "unit": self.unit.value,
            "thresholds": {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in steps]},
        }
        if self.kind is Kind.LINES:
            defaults["custom"] = self._drawing()
        return defaults

    def _drawing(self) -> dict[str, Any]:
        return {
            "lineWidth": 1,
            "fillOpacity": 30 if self.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if self.limits else "off"},
        }


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def laid_out(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The panels of all rows, from left to right and from top to bottom."""
    documents: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        documents.append(_heading(row.title, len(documents) + 1, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            documents.append(panel.document(len(documents) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return documents


def _heading(title: str, number: int, y: int) -> dict[str, Any]:
    grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}
