"""The drift reference of a trained model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features import FeatureTransformer
from scoring import DriftReference, category_bins, quantile_bins
from training.settings import DriftReferenceSettings


def drift_reference(
    matrix: NDArray[np.float64],
    transformer: FeatureTransformer,
    *,
    probabilities: NDArray[np.float64],
    gain: NDArray[np.float64],
    settings: DriftReferenceSettings,
) -> DriftReference:
    """The reference of a model that was fitted on `matrix`, with out-of-fold PDs and its total gain per feature."""
    codes = {i: len(transformer.state.vocabularies[transformer.names[i]]) for i in transformer.categorical}
    bins = [
        category_bins(values, codes[i]) if i in codes else quantile_bins(values, settings.feature_bins)
        for i, values in enumerate(matrix.T)
    ]
    shares = gain / max(float(gain.sum()), np.finfo(np.float64).tiny)
    return DriftReference(
        features=dict(zip(transformer.names, bins, strict=True)),
        probability=quantile_bins(probabilities, settings.probability_bins),
        importance=dict(zip(transformer.names, map(float, shares), strict=True)),
        rows=len(matrix),
    )
