"""The two kinds of rules that Prometheus evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring.alerting.duration import Duration
from monitoring.alerting.settings import Severity


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus computes again and again: level:metric:operations."""

    record: str
    expr: str

    def document(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True)
class Alert:
    """A condition that somebody must know of.

    Attributes
    ----------
    hold : how long the condition must last; None: fires at once
    labels : more labels than the severity
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    hold: Duration | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def document(self, runbook: str) -> dict[str, Any]:
        """As Prometheus reads it, with the address of its paragraph in the runbook."""
        annotations = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbook}#{self.name.lower()}",
        }
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": str(self.hold)} if self.hold else {}),
            "labels": {"severity": self.severity.value, **self.labels},
            "annotations": annotations,
        }
