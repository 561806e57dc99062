"""The commands of `python -m monitoring`, each in a module of its own."""

from __future__ import annotations

from .close import add_close
from .dashboard import add_dashboard
from .drift import add_drift
from .fairness import add_fairness
from .notify import add_notify
from .performance import add_performance
from .report import add_report
from .rules import add_rules

COMMANDS = (
    add_close,
    add_drift,
    add_performance,
    add_fairness,
    add_report,
    add_notify,
    add_rules,
    add_dashboard,
)

__all__ = [
    "COMMANDS",
    "add_close",
    "add_dashboard",
    "add_drift",
    "add_fairness",
    "add_notify",
    "add_performance",
    "add_report",
    "add_rules",
]
