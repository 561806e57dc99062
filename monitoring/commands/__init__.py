"""The commands of `python -m monitoring`, each in a module of its own."""

from __future__ import annotations

from monitoring.commands.close import add_close
from monitoring.commands.drift import add_drift
from monitoring.commands.fairness import add_fairness
from monitoring.commands.notify import add_notify
from monitoring.commands.performance import add_performance
from monitoring.commands.report import add_report

COMMANDS = (
    add_close,
    add_drift,
    add_performance,
    add_fairness,
    add_report,
    add_notify,
)

__all__ = [
    "COMMANDS",
    "add_close",
    "add_drift",
    "add_fairness",
    "add_notify",
    "add_performance",
    "add_report",
]
