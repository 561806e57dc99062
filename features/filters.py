"""Filters that say which columns of a model matrix to drop. Each is fitted on a training fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def constant(matrix: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """True for the columns whose most frequent value, missing included, has at least `share` of the rows.

    >>> constant(np.array([[1.0, np.nan], [1.0, np.nan], [2.0, np.nan]]), 0.99)
    array([False,  True])
    """
    return np.array([_mode_share(column) >= share for column in matrix.T])


def _mode_share(values: NDArray[np.float64]) -> float:
    _, counts = np.unique(values, return_counts=True, equal_nan=True)
    return float(counts.max() / len(values))


def correlated(
    matrix: NDArray[np.float64],
    threshold: float,
    *,
    among: NDArray[np.bool_],
    categorical: tuple[int, ...] = (),
) -> NDArray[np.bool_]:
    """True for the columns whose absolute Pearson correlation with an earlier, kept column exceeds `threshold`.

    Only the columns in `among` that hold numbers are compared; missing values stand at the mean of their column.
    """
    compared = among.copy()
    compared[list(categorical)] = False
    compared &= ~np.isnan(matrix).all(axis=0)
    numbers = matrix[:, compared]
    centred = np.nan_to_num(numbers - np.nanmean(numbers, axis=0), nan=0.0)
    norm = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    close = np.abs(scaled.T @ scaled) > threshold
    dropped = np.zeros(len(close), dtype=np.bool_)
    for i in range(len(close)):
        dropped[i] = bool(np.any(close[i, :i] & ~dropped[:i]))
    result = np.zeros(matrix.shape[1], dtype=np.bool_)
    result[np.flatnonzero(compared)] = dropped
    return result
