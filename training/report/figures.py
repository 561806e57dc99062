"""The report's figures are drawn and its numbers are formatted here."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from monitoring.measures import Estimate
from training.evaluation import Evaluation, Observation, observe_bands
from training.settings import TrainingSettings
from training.trainer import Dependence, Interpretation, Point, TrainedModel

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Row = tuple[str, ...]
_BAD, _GOOD, _GUIDE = "#b2182b", "#2166ac", "#999999"
_POINTS = 300
_TAIL = 0.001


def evaluation_figures(
    target: Target, probability: Probabilities, evaluation: Evaluation, *, cutoff: float, bands: int
) -> dict[str, Figure]:
    """Draw the figures of an evaluation, by name; calibration is shown in `bands` bands of equal size."""
    observed = observe_bands(target, probability, bands, evaluation.confidence)
    return {
        "roc": _roc(target, probability, evaluation),
        "precision_recall": _precision_recall(target, probability, evaluation),
        "calibration": _calibration(observed, evaluation),
        "confusion_matrix": _confusion(evaluation, cutoff),
        "score_distribution": _distribution(target, probability, cutoff),
    }


def model_figures(target: Target, trained: TrainedModel, settings: TrainingSettings) -> dict[str, Figure]:
    """Draw the figures of a model: of its out-of-fold PDs for the outcomes `target`, and of its main features."""
    return {
        **evaluation_figures(
            target,
            trained.probabilities,
            trained.evaluation,
            cutoff=trained.policy.cutoff,
            bands=settings.evaluation.calibration_bins,
        ),
        "feature_importance": _importance(trained.importance, settings.report.features),
        "dependence": dependence(
            trained.interpretation, trained.features.vocabularies, min_rows=settings.report.min_rows
        ),
    }


def plain_axes(title: str, x: str, y: str, *, height: float = 4.5) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes."""
    # Not by pyplot, which keeps every figure in memory until it is closed by hand.
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _roc(target: Target, probability: Probabilities, evaluation: Evaluation) -> Figure:
    figure, axes = plain_axes("ROC, out of fold", "share of good applications declined", "share of defaults declined")
    false_positive, true_positive, _ = roc_curve(target, probability)
    # A curve of all rows would make the page as long as the file, and show single applicants.
    shown = np.linspace(0, 1, _POINTS)
    axes.plot(shown, np.interp(shown, false_positive, true_positive), color=_BAD, label=f"AUC {evaluation['auc']}")
    axes.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _precision_recall(target: Target, probability: Probabilities, evaluation: Evaluation) -> Figure:
    figure, axes = plain_axes("Precision and recall, out of fold", "recall", "precision")
    precision, recall, _ = precision_recall_curve(target, probability)
    shown = np.linspace(0, 1, _POINTS)[1:]
    # scikit-learn's recall falls, and its last point (precision 1 at recall 0) is no observation.
    curve = np.interp(shown, recall[-2::-1], precision[-2::-1])
    axes.plot(shown, curve, color=_BAD, label=f"AP {evaluation['average_precision']}")
    axes.axhline(target.mean(), color=_GUIDE, linestyle=":", label=f"default rate {target.mean():.4f}")
    axes.legend(loc="upper right", frameon=False)
    return figure


def _calibration(bands: Sequence[Observation], evaluation: Evaluation) -> Figure:
    figure, axes = plain_axes("Calibration, out of fold", "mean PD of the band", "observed default rate")
    seen = [(band.mean_probability, band.default_rate) for band in bands]
    pairs = [(mean, rate) for mean, rate in seen if mean is not None and rate is not None]
    means, rates = [mean for mean, _ in pairs], [rate.value for _, rate in pairs]
    below, above = [rate.value - rate.low for _, rate in pairs], [rate.high - rate.value for _, rate in pairs]
    end = 1.05 * max(*means, *(rate.high for _, rate in pairs))
    axes.plot([0, end], [0, end], color=_GUIDE, linestyle=":", label="perfect")
    label = f"{len(pairs)} bands, {evaluation.confidence:.0%} intervals; ECE {evaluation['ece'].value:.4f}"
    axes.errorbar(means, rates, [below, above], fmt="o-", color=_GOOD, markersize=4, capsize=2, label=label)
    axes.legend(loc="upper left", frameon=False)
    return figure


def _confusion(evaluation: Evaluation, cutoff: float) -> Figure:
    figure, axes = plain_axes(f"Decisions at the cut-off {cutoff:.4f}", "predicted", "outcome")
    counts = np.array(evaluation.confusion).reshape(2, 2)
    axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = count / counts[row].sum()
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color=colour)
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["repays", "defaults"], yticklabels=["repaid", "defaulted"])
    return figure


def _importance(importance: Sequence[tuple[str, float]], most: int) -> Figure:
    figure, axes = plain_axes("Feature importance", "share of the total gain", "", height=7)
    total = max(sum(gain for _, gain in importance), np.finfo(np.float64).tiny)
    shown = sorted(importance, key=lambda pair: pair[1])[-most:]
    axes.barh([name for name, _ in shown], [gain / total for _, gain in shown], color=_GOOD)
    axes.tick_params(axis="y", labelsize=7)
    return figure


def _distribution(target: Target, probability: Probabilities, cutoff: float) -> Figure:
    """The tails are drawn in the outermost bins, so that no single PD can be read off the axis."""
    figure, axes = plain_axes("PD by outcome, out of fold", "PD, logarithmic scale", "share of the outcome")
    low, high = np.quantile(probability, [_TAIL, 1 - _TAIL])
    bins = np.geomspace(low, high, 60).tolist() if low < high else [low / 2, 2 * low]
    for outcome, colour, label in ((0, _GOOD, "repaid"), (1, _BAD, "defaulted")):
        values = np.clip(probability[target == outcome], bins[0], bins[-1])
        shares = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=bins, weights=shares, color=colour, alpha=0.5, label=label)
    axes.axvline(cutoff, color="black", linestyle=":", label=f"cut-off {cutoff:.4f}")
    axes.set_xscale("log")
    axes.legend(loc="upper left", frameon=False)
    return figure


_COLUMNS = 3
_LINE, _MISSING, _ZERO = "#2166ac", "#b2182b", "#999999"
_LONGEST = 24


def dependence(interpretation: Interpretation, levels: Mapping[str, Sequence[str]], *, min_rows: int) -> Figure:
    """Draw a panel for each main feature, without points of fewer than `min_rows` rows.

    `levels` holds the levels of each category, in the order of their codes.
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


# matplotlib writes the time and its own version into a file; the same training shall give the same bytes.
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_UNNEEDED = re.compile(r' xmlns(?::\w+)?="[^"]*"|<defs>\s*<style.*?</style>\s*</defs>\s*', re.DOTALL)
_REFERENCES = re.compile(r'(\bid="|href="#|url\(#)')


def write_png(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file."""
    figure.savefig(path, dpi=130, metadata={"Software": None})


def svg(name: str, figure: Figure) -> Markup:
    """Return the figure as an SVG element for an HTML page; its text stays text.

    All ids begin with `name`, so that two figures of one page share none. Namespaces are left out, since HTML knows
    them.
    """
    written = io.StringIO()
    # Without a salt of ours, matplotlib draws random ids.
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    element = written.getvalue()[written.getvalue().index("<svg") :]
    named = _REFERENCES.sub(rf"\g<1>{name}-", _UNNEEDED.sub("", element))
    return Markup(named.replace("<svg", f'<svg role="img" aria-labelledby="{name}"', 1))  # noqa: S704 - matplotlib escapes


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A report table has cells under headings; `align` has a letter per column, `r` for numbers, `l` for words."""

    align: str
    head: Row
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, align: str, head: Row, rows: Iterable[Row]) -> Self:
        """Make the table of these rows; ValueError unless each has a cell for every column."""
        rows = tuple(rows)
        if any(len(row) != len(align) for row in (head, *rows)):
            raise ValueError(f"every row must have {len(align)} cells")
        return cls(align, head, rows)


NOTHING = "\N{EN DASH}"
"""The text of a cell without a figure."""


def count(value: int) -> str:
    """Format a whole number.

    >>> count(35309)
    '35,309'
    """
    return f"{value:,}"


def decimal(value: float | None) -> str:
    """Format a number with four decimals; a dash for None or NaN."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Format a number with its sign and four decimals."""
    return f"{value:+.4f}"


def percent(value: float | None) -> str:
    """Format a share in per cent; a dash for None or NaN.

    >>> percent(0.0784)
    '7.84 %'
    """
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def span(estimate: Estimate | None) -> str:
    """Format the interval of an estimate; a dash for None."""
    return NOTHING if estimate is None else f"{decimal(estimate.low)} to {decimal(estimate.high)}"


def percent_span(estimate: Estimate | None) -> str:
    """Format the interval of a share in per cent; a dash for None.

    >>> percent_span(Estimate(0.1, 0.05, 0.15))
    '5.00 to 15.00 %'
    """
    return NOTHING if estimate is None else f"{100 * estimate.low:.2f} to {percent(estimate.high)}"


def place_in_interval(value: float | None, estimate: Estimate | None) -> str:
    """Say whether an expected share is inside the interval of the observed one, too low or too high."""
    if value is None or estimate is None:
        return NOTHING
    if value < estimate.low:
        return "too low"
    return "too high" if value > estimate.high else "inside"
