"""Figures of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from training.evaluation import Evaluation

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]

_BAD, _GOOD, _GUIDE = "#b2182b", "#2166ac", "#999999"
_MOST_IMPORTANT = 25


def draw_figures(
    directory: Path,
    *,
    target: Target,
    probability: Probabilities,
    evaluation: Evaluation,
    cutoff: float,
    importance: Sequence[tuple[str, float]] = (),
) -> list[Path]:
    """Draw every figure into `directory` and return the files.

    `importance` pairs feature names with their gain; without any, that figure is left out.
    """
    drawn = {
        "roc": _roc(target, probability, evaluation),
        "precision_recall": _precision_recall(target, probability, evaluation),
        "calibration": _calibration(target, probability, evaluation),
        "confusion_matrix": _confusion(evaluation, cutoff),
        **({"feature_importance": _importance(importance)} if importance else {}),
        "score_distribution": _distribution(target, probability, cutoff),
    }
    return [_save(figure, directory / f"{name}.png") for name, figure in drawn.items()]


def _axes(title: str, x: str, y: str, *, height: float = 4.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _roc(target: Target, probability: Probabilities, evaluation: Evaluation) -> Figure:
    figure, axes = _axes("ROC, out of fold", "share of good applications declined", "share of defaults declined")
    false_positive, true_positive, _ = roc_curve(target, probability)
    axes.plot(false_positive, true_positive, color=_BAD, label=f"AUC {evaluation['auc']}")
    axes.plot([0, 1], [0, 1], color=_GUIDE, linestyle=":")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _precision_recall(target: Target, probability: Probabilities, evaluation: Evaluation) -> Figure:
    figure, axes = _axes("Precision and recall, out of fold", "recall", "precision")
    precision, recall, _ = precision_recall_curve(target, probability)
    axes.plot(recall[:-1], precision[:-1], color=_BAD, label=f"AP {evaluation['average_precision']}")
    axes.axhline(target.mean(), color=_GUIDE, linestyle=":", label=f"default rate {target.mean():.4f}")
    axes.legend(frameon=False)
    return figure


def _calibration(target: Target, probability: Probabilities, evaluation: Evaluation) -> Figure:
    figure, axes = _axes("Calibration, out of fold", "mean PD of the bin", "observed default rate")
    observed, predicted = calibration_curve(target, probability, n_bins=20, strategy="quantile")
    end = 1.05 * max(observed.max(), predicted.max())
    axes.plot([0, end], [0, end], color=_GUIDE, linestyle=":")
    axes.plot(predicted, observed, "o-", color=_GOOD, label=f"ECE {evaluation['ece']}")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _confusion(evaluation: Evaluation, cutoff: float) -> Figure:
    figure, axes = _axes(f"Decisions at the cut-off {cutoff:.4f}", "predicted", "outcome")
    counts = np.array(evaluation.confusion).reshape(2, 2)
    axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = count / counts[row].sum()
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color=colour)
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["repays", "defaults"], yticklabels=["repaid", "defaulted"])
    return figure


def _importance(importance: Sequence[tuple[str, float]]) -> Figure:
    figure, axes = _axes("Feature importance", "share of the total gain", "", height=7)
    total = sum(gain for _, gain in importance)
    shown = sorted(importance, key=lambda pair: pair[1])[-_MOST_IMPORTANT:]
    axes.barh([name for name, _ in shown], [gain / total for _, gain in shown], color=_GOOD)
    axes.tick_params(axis="y", labelsize=7)
    return figure


def _distribution(target: Target, probability: Probabilities, cutoff: float) -> Figure:
    figure, axes = _axes("PD by outcome, out of fold", "PD, logarithmic scale", "share of the outcome")
    bins = np.geomspace(probability.min(), probability.max(), 60).tolist()
    for outcome, colour, label in ((0, _GOOD, "repaid"), (1, _BAD, "defaulted")):
        values = probability[target == outcome]
        shares = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=bins, weights=shares, color=colour, alpha=0.5, label=label)
    axes.axvline(cutoff, color="black", linestyle=":", label=f"cut-off {cutoff:.4f}")
    axes.set_xscale("log")
    axes.legend(frameon=False)
    return figure
