"""The types that one generated table is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .category import Category

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Columns = dict[str, Floats | Integers | Category]
"""Column name -> values, all of one length. NaN or code -1 is missing."""


def effect(condition: Booleans, amount: float) -> Floats:
    """`amount` where `condition` holds, 0 elsewhere, shape (n,)."""
    return np.where(condition, amount, 0.0)


def whole(values: Floats | Booleans) -> Integers:
    """Values cut to whole numbers, shape (n,)."""
    return values.astype(np.int64)


def to_multiple(values: Floats, step: Floats | float) -> Floats:
    """Values rounded to the nearest multiple of `step`, shape (n,)."""
    return np.rint(values / step) * step


def to_decimals(values: Floats, decimals: int) -> Floats:
    """Values rounded to a number of decimals, shape (n,)."""
    scale = 10.0**decimals
    return np.rint(values * scale) / scale


def missing_where(condition: Booleans, values: Floats | Integers) -> Floats:
    """Values as float64, NaN where `condition` holds, shape (n,)."""
    return np.where(condition, np.nan, values)
