"""Hyper-parameter search: seeded, pruned, resumable, and judged on rows that it never saw."""

from __future__ import annotations

from .nested import NestedEstimate
from .parameters import TunedParameters
from .report import tuning_lines
from .search import Tuned, tune

__all__ = ["NestedEstimate", "Tuned", "TunedParameters", "tune", "tuning_lines"]
