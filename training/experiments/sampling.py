"""LightGBM on folds whose training rows are weighed or resampled; rows that judge are never touched."""

from __future__ import annotations

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray

from training.fitting import margins_of, parameters, stoppable
from training.settings import FeatureEngineeringSettings, ModelSettings, Sampling, SamplingSettings

from .candidate import Candidate, Margins
from .encoding import encoder
from .fold import FoldMatrices

Matrix = NDArray[np.float64]
Target = NDArray[np.int64]
_INTERPOLATING = (Sampling.SMOTE, Sampling.HYBRID)


def sampled(sampling: Sampling, settings: FeatureEngineeringSettings, model: ModelSettings, *, seed: int) -> Candidate:
    """LightGBM with this way of sampling.

    What interpolates between rows cannot do so across missing values and categories: those ways fit on the matrix that
    `encoder` makes. Every fold grows the same number of trees, so that its margins are on the scale of the others'.
    """
    resampler = Resampler(sampling, settings.sampling, seed)

    def margins(fold: FoldMatrices) -> Margins:
        fold = _complete(fold) if sampling in _INTERPOLATING else fold
        matrix, target, weight = resampler(fold.fitted, fold.target)
        data = lgb.Dataset(matrix, target, weight=weight, categorical_feature=list(fold.categorical))
        booster = lgb.train(
            parameters(model, seed, fold.names), data, num_boost_round=settings.trees, callbacks=[stoppable]
        )
        return margins_of(booster, fold.judged, threads=model.threads)

    stated = {"sampling": sampling.value, "trees": settings.trees, **model.parameters.stated()}
    return Candidate(sampling, stated, margins)


@dataclass(frozen=True, slots=True)
class Resampler:
    """Rows, outcomes and weights to fit on, made of those of a training fold."""

    sampling: Sampling
    settings: SamplingSettings
    seed: int

    def __call__(self, matrix: Matrix, target: Target) -> tuple[Matrix, Target, NDArray[np.float64] | None]:
        """`matrix` must be complete for the ways that interpolate."""
        if self.sampling is Sampling.BALANCED_WEIGHTS:
            return matrix, target, len(target) / (2 * np.bincount(target))[target]
        if self.sampling is Sampling.SMOTE:
            matrix, target = self._smote(matrix, target, self.settings.smote_ratio)
        if self.sampling is Sampling.HYBRID:
            matrix, target = self._smote(matrix, target, self.settings.hybrid_ratio)
        if self.sampling in (Sampling.HYBRID, Sampling.UNDERSAMPLING):
            matrix, target = self._undersampled(matrix, target)
        return matrix, target, None

    def _smote(self, matrix: Matrix, target: Target, ratio: float) -> tuple[Matrix, Target]:
        if _odds(target) >= ratio:
            return matrix, target
        smote = SMOTE(sampling_strategy=ratio, k_neighbors=self.settings.neighbours, random_state=self.seed)
        return smote.fit_resample(matrix, target)  # type: ignore[no-any-return]

    def _undersampled(self, matrix: Matrix, target: Target) -> tuple[Matrix, Target]:
        if _odds(target) >= self.settings.undersampling_ratio:
            return matrix, target
        chosen = RandomUnderSampler(sampling_strategy=self.settings.undersampling_ratio, random_state=self.seed)
        rows, _ = chosen.fit_resample(np.arange(len(target))[:, np.newaxis], target)
        return matrix[rows[:, 0]], target[rows[:, 0]]


def _odds(target: Target) -> float:
    """Defaults for each good row."""
    return float(target.sum() / (len(target) - target.sum()))


def _complete(fold: FoldMatrices) -> FoldMatrices:
    fitted = encoder(len(fold.names), fold.categorical).fit(fold.fitted)
    names = tuple(fitted[-1].get_feature_names_out())
    return FoldMatrices(fitted.transform(fold.fitted), fitted.transform(fold.judged), fold.target, (), names)
