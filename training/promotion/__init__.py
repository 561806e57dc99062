"""Challenger against champion: gates, promotion, rollback."""

from __future__ import annotations

from .contender import Contender
from .gates import Gate, evaluation_gates
from .judging import Verdict, judge
from .promotion import enthrone, keep, promote, rollback
from .screening import screen

__all__ = [
    "Contender",
    "Gate",
    "Verdict",
    "enthrone",
    "evaluation_gates",
    "judge",
    "keep",
    "promote",
    "rollback",
    "screen",
]
