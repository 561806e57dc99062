"""Complete, scaled numbers for models that know neither missing values nor categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

Matrix = NDArray[np.float64]


def encoder(width: int, categorical: Sequence[int]) -> Pipeline:
    """Indicators of each category, a missing one included, and numbers imputed by their median and standardized.

    To be fitted on a training fold; for a model matrix of `width` columns, of which `categorical` hold codes.
    """
    numeric = [column for column in range(width) if column not in set(categorical)]
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    indicators = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoded = ColumnTransformer([("numbers", numbers, numeric), ("categories", indicators, list(categorical))])
    return make_pipeline(FunctionTransformer(_finite), encoded)


def _finite(matrix: Matrix) -> Matrix:
    return np.where(np.isfinite(matrix), matrix, np.nan)
