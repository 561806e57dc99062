"""Which features, and what to do about the rarity of defaults: every combination on the same folds."""

from __future__ import annotations

from scoring import Progress
from training.data import Dataset
from training.settings import TrainingSettings

from .cross_fitting import CrossFitted, cross_fit
from .sampling import sampled


def feature_engineering(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Out-of-fold predictions of LightGBM for each set of features and each way of sampling."""
    chosen = settings.experiments.feature_engineering
    faster = settings.model.parameters.model_copy(update={"learning_rate": chosen.learning_rate})
    model = settings.model.model_copy(update={"parameters": faster})
    candidates = [sampled(way, chosen, model, seed=settings.seed) for way in chosen.samplings]
    groups = {
        name: (settings.features.model_copy(update={"sets": sets}), candidates)
        for name, sets in chosen.feature_sets.items()
    }
    with progress.step("feature engineering", len(groups) * len(candidates) * settings.model.folds) as advance:
        return cross_fit(dataset, groups, settings, advance)
