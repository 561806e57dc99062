"""The figure of how the main features act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.fitting import Dependence, Interpretation, Point

_COLUMNS = 3
_LINE, _MISSING, _ZERO = "#2166ac", "#b2182b", "#999999"
_LONGEST = 24


def dependence(interpretation: Interpretation, levels: Mapping[str, Sequence[str]], *, min_rows: int) -> Figure:
    """One panel for each main feature; points of fewer than `min_rows` rows are left out.

    `levels` are those of each category, by code.
    """
    rows = -(-len(interpretation.dependence) // _COLUMNS)
    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained")
    for i, one in enumerate(interpretation.dependence):
        axes = figure.add_subplot(rows, _COLUMNS, i + 1)
        points = [point for point in one.points if point.rows >= min_rows]
        if one.feature in levels:
            _draw_levels(axes, points, [*levels[one.feature], "other"])
        else:
            _draw_numbers(axes, points)
        _finish(axes, one)
    figure.supylabel("added to the log-odds of default; of categories, the bars", fontsize=9)
    return figure


def _draw_numbers(axes: Axes, points: Sequence[Point]) -> None:
    known = [(point.value, point.contribution) for point in points if point.value is not None]
    axes.axhline(0, color=_ZERO, linewidth=0.6)
    axes.plot([value for value, _ in known], [added for _, added in known], "o-", color=_LINE, markersize=3)
    for point in points:
        if point.value is None:
            axes.axhline(point.contribution, color=_MISSING, linestyle=":", label="missing")
            axes.legend(loc="upper right", frameon=False, fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _draw_levels(axes: Axes, points: Sequence[Point], names: Sequence[str]) -> None:
    ordered = sorted(points, key=lambda point: point.contribution)
    labels = ["missing" if point.value is None else names[int(point.value)] for point in ordered]
    colours = [_MISSING if point.value is None else _LINE for point in ordered]
    axes.axvline(0, color=_ZERO, linewidth=0.6)
    axes.barh(range(len(ordered)), [point.contribution for point in ordered], color=colours)
    axes.set_yticks(range(len(ordered)), [_clipped(label) for label in labels])


def _finish(axes: Axes, one: Dependence) -> None:
    axes.set_title(one.feature, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _clipped(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _short(value: float) -> str:
    """A number that fits under an axis.

    >>> [_short(value) for value in (1.5e6, -200_000, 0.25)]
    ['1.5M', '-200k', '0.25']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
