"""The commands of `python -m monitoring`, one in each file: a function that adds it, which sets what it runs."""

from __future__ import annotations

from .close import add_close
from .drift import add_drift
from .performance import add_performance

COMMANDS = (add_close, add_drift, add_performance)

__all__ = ["COMMANDS", "add_close", "add_drift", "add_performance"]
