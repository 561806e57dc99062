"""Drift: how windows of applications are judged against the model's reference."""

from __future__ import annotations

from .culprit import Culprit
from .judgement import SCORE, Judgement, judge
from .lines import judgement_json, judgement_lines, ordered
from .settings import DriftSettings
from .shift import Level, Shift
from .simulation import Population, Simulated, simulate
from .window import Window

__all__ = [
    "SCORE",
    "Culprit",
    "DriftSettings",
    "Judgement",
    "Level",
    "Population",
    "Shift",
    "Simulated",
    "Window",
    "judge",
    "judgement_json",
    "judgement_lines",
    "ordered",
    "simulate",
]
