"""The figure of how the main features act."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.fitting import Dependence, Interpretation

_COLUMNS = 3
_LINE, _MISSING = "#2166ac", "#b2182b"


def draw_dependence(directory: Path, interpretation: Interpretation) -> Path:
    """Draw the dependence of every main feature into `directory`; the file."""
    rows = -(-len(interpretation.dependence) // _COLUMNS)
    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained")
    for i, dependence in enumerate(interpretation.dependence):
        _draw(figure.add_subplot(rows, _COLUMNS, i + 1), dependence)
    figure.supylabel("added to the log-odds of default")
    path = directory / "dependence.png"
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _draw(axes: Axes, dependence: Dependence) -> None:
    known = [(point.value, point.contribution) for point in dependence.points if point.value is not None]
    axes.plot([value for value, _ in known], [added for _, added in known], "o-", color=_LINE, markersize=3)
    for point in dependence.points:
        if point.value is None:
            axes.axhline(point.contribution, color=_MISSING, linestyle=":", label="missing")
            axes.legend(frameon=False, fontsize=7)
    axes.set_title(dependence.feature, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
