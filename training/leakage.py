"""Columns that know the outcome too well: a copy of it, something written down after it, rows sorted by it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.application import APPLICATION
from features.files import File
from features.values import as_numbers
from monitoring.measures import Estimate, auc_estimate
from training.dataset import Dataset
from training.errors import DataError
from training.settings import LeakageSettings

Target = NDArray[np.int64]


def refuse_leaks(dataset: Dataset, settings: LeakageSettings) -> None:
    """DataError naming every declared column that ranks the outcome better than one column plausibly can."""
    dataset = dataset.take(_looked_at(len(dataset), settings.rows))
    found = [
        f"{name} alone ranks the outcome with AUC {area}"
        for name, area in _declared(dataset, settings)
        if area.low > settings.max_column_auc
    ]
    if found:
        limit = f"above leakage.max_column_auc {settings.max_column_auc:g}"
        raise DataError(f"{dataset.source} leaks the outcome: {'; '.join(found)}, {limit}")


def outside_leaks(dataset: Dataset, file: File, settings: LeakageSettings) -> Iterator[str]:
    """One line for each thing beside the declared columns that knows the outcome; none of them reaches a feature."""
    rows = _looked_at(len(dataset), settings.rows)
    target = dataset.target[rows]
    outside = {
        APPLICATION.id_column: dataset.ids[rows].astype(np.float64),
        "the order of the rows": rows.astype(np.float64),
    }
    for name, values in outside.items():
        area = ranking(values, target, settings.confidence)
        if area.low > settings.max_order_auc:
            yield f"{name} ranks the outcome with AUC {area}: no feature reads it, but the rows are not in random order"
    for name in set(file.undeclared) - {APPLICATION.id_column, APPLICATION.target_column}:
        area = ranking(as_numbers(file.column(name))[0][rows], target, settings.confidence)
        if area.low > settings.max_column_auc:
            yield f"{name} ranks the outcome with AUC {area}: it is not declared and was ignored; do not declare it"


def ranking(values: NDArray[np.float64], target: Target, confidence: float) -> Estimate:
    """AUC of one column in its better direction, missing values counted as its lowest or as its highest.

    >>> ranking(np.array([1.0, np.nan, 2.0, np.nan]), np.array([0, 1, 0, 1]), 0.95).value
    1.0
    """
    ends = (-np.inf, np.inf) if np.isnan(values).any() else (0.0,)
    areas = [auc_estimate(target, np.where(np.isnan(values), end, values), confidence) for end in ends]
    return max((_upward(area) for area in areas), key=lambda area: area.value)


def _looked_at(rows: int, most: int) -> NDArray[np.intp]:
    return np.arange(0, rows, -(-rows // most))


def _upward(area: Estimate) -> Estimate:
    """The AUC of the same values with the other sign, if that is higher."""
    return area if area.value >= 0.5 else Estimate(1 - area.value, 1 - area.high, 1 - area.low)


def _declared(dataset: Dataset, settings: LeakageSettings) -> Iterator[tuple[str, Estimate]]:
    for i, column in enumerate(APPLICATION.numeric):
        yield column.name, ranking(dataset.columns.numbers[:, i], dataset.target, settings.confidence)
    for i, column in enumerate(APPLICATION.categorical):
        levels = dataset.columns.levels[:, i]
        yield column.name, _level_ranking(levels, dataset.target, settings.confidence)


def _level_ranking(levels: NDArray[np.object_], target: Target, confidence: float) -> Estimate:
    """AUC of the default rates of levels; they are taken from every other row and judged on the rest."""
    _, codes = np.unique([level or "" for level in levels], return_inverse=True)
    taken, judged = slice(0, None, 2), slice(1, None, 2)
    rows = np.bincount(codes[taken], minlength=codes.max() + 1)
    defaults = np.bincount(codes[taken], weights=target[taken], minlength=codes.max() + 1)
    rate = (defaults + target.mean()) / (rows + 1)
    return auc_estimate(target[judged], rate[codes[judged]], confidence)
