"""The fitted trees: from the model matrix to margins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import ArtefactError
from .native import NativeBooster


class Model:
    """A LightGBM model read from its text form; ArtefactError if it is none, or has more than one score for a row.

    `margins` uses `threads` threads; the margin of a row has the same bits for any number of threads and any batch, and
    those of `lightgbm.Booster.predict`.
    """

    def __init__(self, text: str, *, threads: int = 1) -> None:
        self._booster = NativeBooster(text, threads=threads)
        if self._booster.classes != 1:
            raise ArtefactError(f"the model has {self._booster.classes} scores for a row, not one")
        self._single_row = self._booster.single_row()

    @property
    def features(self) -> int:
        """How many columns the model matrix has."""
        return self._booster.features

    @property
    def trees(self) -> int:
        """How many trees are added up."""
        return self._booster.trees

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw log-odds of default, float64 of shape (n,), for a model matrix of shape (n, features); NaN is missing."""
        if matrix.ndim != 2 or matrix.shape[1] != self.features:
            raise ValueError(f"the model takes {self.features} features, not shape {matrix.shape}")
        if len(matrix) == 1:
            return self._single_row(matrix)
        return self._booster.margins(matrix) if len(matrix) else np.empty(0)
