"""What is shown of a model: figures."""

from __future__ import annotations

from .dependence_figure import draw_dependence
from .figures import draw_figures

__all__ = ["draw_dependence", "draw_figures"]
