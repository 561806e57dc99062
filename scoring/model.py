"""The fitted trees: from the model matrix to margins."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from .errors import ArtefactError


class Model:
    """A LightGBM model read from its text form.

    `margins` uses `threads` threads; the margin of a row has the same bits for any number of threads and any batch.
    """

    def __init__(self, text: str, *, threads: int = 1) -> None:
        try:
            self._booster = lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError:
            raise ArtefactError("the model text is not a LightGBM model") from None
        self._threads = threads

    @property
    def features(self) -> int:
        """How many columns the model matrix has."""
        return int(self._booster.num_feature())

    @property
    def trees(self) -> int:
        """How many trees are added up."""
        return int(self._booster.num_trees())

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw log-odds of default, float64 of shape (n,), for a model matrix of shape (n, features); NaN is missing."""
        if not len(matrix):
            return np.empty(0)
        margins = np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=self._threads), dtype=np.float64)
        if margins.shape != (len(matrix),):
            raise ArtefactError(f"the model answered shape {margins.shape} for {len(matrix)} rows")
        return margins
