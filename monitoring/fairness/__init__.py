"""Fairness: how the decisions treat protected groups, which the model does not see."""

from __future__ import annotations

from .lines import screening_json, screening_lines
from .protected import Protected, read_protected
from .screening import SIGNAL, Decided, GroupRates, Screening, decided, screen

__all__ = [
    "SIGNAL",
    "Decided",
    "GroupRates",
    "Protected",
    "Screening",
    "decided",
    "read_protected",
    "screen",
    "screening_json",
    "screening_lines",
]
