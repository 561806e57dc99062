"""What is shown of a model: figures, and the report for those who judge it."""

from __future__ import annotations

from .figures import evaluation_figures
from .writing import write_figures, write_report

__all__ = ["evaluation_figures", "write_figures", "write_report"]
