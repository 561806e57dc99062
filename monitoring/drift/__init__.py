"""Drift: how windows of applications are judged against the model's reference."""

from __future__ import annotations

from .culprit import Culprit
from .judgement import SCORE, Judgement, judge
from .settings import DriftSettings
from .shift import Level, Shift
from .window import Window

__all__ = ["SCORE", "Culprit", "DriftSettings", "Judgement", "Level", "Shift", "Window", "judge"]
