"""The commands of `python -m monitoring`, one in each file: a function that adds it, which sets what it runs."""

from __future__ import annotations

from .close import add_close
from .drift import add_drift
from .fairness import add_fairness
from .performance import add_performance
from .report import add_report

COMMANDS = (add_close, add_drift, add_performance, add_fairness, add_report)

__all__ = ["COMMANDS", "add_close", "add_drift", "add_fairness", "add_performance", "add_report"]
