"""Experiments: models, features and ways of sampling compared on the same folds by paired differences."""

from __future__ import annotations

from .comparison import Compared
from .experiment import EXPERIMENTS, Experiment
from .table import table_lines

__all__ = ["EXPERIMENTS", "Compared", "Experiment", "table_lines"]
