"""One fold as matrices: what a candidate fits on and what it judges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import FeatureSettings, FeatureTransformer
from training.data import Dataset
from training.fitting import fit_state
from training.settings import ModelSettings

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class FoldMatrices:
    """Matrices of one fold, made by features that were fitted on its training rows alone.

    Attributes
    ----------
    fitted, judged : float64, shape (rows, d); NaN is missing
    target : outcomes of the fitted rows
    categorical : columns that hold category codes
    names : the features, shape (d,)
    """

    fitted: NDArray[np.float64]
    judged: NDArray[np.float64]
    target: NDArray[np.int64]
    categorical: tuple[int, ...]
    names: tuple[str, ...]


def fold_matrices(
    dataset: Dataset, fitted: Rows, judged: Rows, features: FeatureSettings, model: ModelSettings, *, seed: int
) -> FoldMatrices:
    """The matrices of the rows `fitted` and `judged`."""
    columns, target = dataset.columns.take(fitted), dataset.target[fitted]
    transformer = FeatureTransformer(fit_state(columns, target, features, model, seed=seed))
    return FoldMatrices(
        fitted=transformer.transform(columns),
        judged=transformer.transform(dataset.columns.take(judged)),
        target=target,
        categorical=transformer.categorical,
        names=transformer.names,
    )
