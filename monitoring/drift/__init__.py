"""Drift: how windows of applications are judged against the model's reference."""

from __future__ import annotations

from .calendar import PERIODS, WHOLE, bound_to, whole_periods
from .culprit import Culprit
from .judgement import SCORE, Judgement, judge
from .lines import judgement_json, judgement_lines, ordered, unjudged
from .settings import DriftSettings
from .shift import Level, Shift
from .simulation import Population, Simulated, simulate
from .window import Window

__all__ = [
    "PERIODS",
    "SCORE",
    "WHOLE",
    "Culprit",
    "DriftSettings",
    "Judgement",
    "Level",
    "Population",
    "Shift",
    "Simulated",
    "Window",
    "bound_to",
    "judge",
    "judgement_json",
    "judgement_lines",
    "ordered",
    "simulate",
    "unjudged",
    "whole_periods",
]
