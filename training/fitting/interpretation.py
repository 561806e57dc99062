"""What a fitted model answers to: contributions of the features, and how the main ones act."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from training.settings import InterpretationSettings

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """Rows whose value of a feature lies between two of its quantiles, or is one category, or is missing.

    `value` is their median, or the code of the category; None where it is missing. `contribution` is the mean that the
    feature adds to their log-odds of default.
    """

    value: float | None
    contribution: float
    rows: int


@dataclass(frozen=True, slots=True)
class Dependence:
    """How one feature acts, from its lowest values to its highest, missing values last."""

    feature: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """Contributions to the log-odds of default, measured on `rows` rows drawn from those the model was fitted on.

    `contributions` pairs each feature with its share of the mean absolute contribution, the largest first.
    Source: S. Lundberg et al., Nature Machine Intelligence 2, 2020; computed by LightGBM itself.
    """

    rows: int
    contributions: tuple[tuple[str, float], ...]
    dependence: tuple[Dependence, ...]


def interpret(
    booster: lgb.Booster,
    matrix: Matrix,
    names: tuple[str, ...],
    settings: InterpretationSettings,
    *,
    categorical: Collection[int] = (),
    seed: int,
) -> Interpretation:
    """The interpretation of a model on a sample of its model matrix, whose columns `categorical` hold codes."""
    count = min(settings.rows, len(matrix))
    drawn = matrix[np.sort(np.random.default_rng(seed).choice(len(matrix), count, replace=False))]
    added = np.asarray(booster.predict(drawn, pred_contrib=True), dtype=np.float64)[:, :-1]
    strength = np.abs(added).mean(axis=0)
    order = np.argsort(-strength, kind="stable")
    total = max(float(strength.sum()), np.finfo(np.float64).tiny)
    return Interpretation(
        rows=count,
        contributions=tuple((names[i], float(strength[i]) / total) for i in order),
        dependence=tuple(
            Dependence(names[i], _points(drawn[:, i], added[:, i], None if i in categorical else settings.bins))
            for i in order[: settings.features]
        ),
    )


def _points(values: Matrix, added: Matrix, bins: int | None) -> tuple[Point, ...]:
    known = ~np.isnan(values)
    group = values[known] if bins is None else _binned(values[known], bins)
    points = [_point(values[known][group == i], added[known][group == i]) for i in np.unique(group)]
    if not known.all():
        points.append(Point(None, float(added[~known].mean()), int((~known).sum())))
    return tuple(points)


def _binned(values: Matrix, bins: int) -> NDArray[np.intp]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])) if len(values) else np.empty(0)
    return np.searchsorted(edges, values, side="right")


def _point(values: Matrix, added: Matrix) -> Point:
    return Point(float(np.median(values)), float(added.mean()), len(values))
