"""Which family of models: the same features and folds for each, and two ensembles."""

from __future__ import annotations

from scoring import Progress
from training.data import Dataset
from training.settings import TrainingSettings

from .cross_fitting import CrossFitted, cross_fit
from .ensemble import blended, stacked
from .families import candidate


def model_selection(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Out-of-fold predictions of every family, and of the blend and the stack of some."""
    chosen = settings.experiments.model_selection
    candidates = [candidate(family, settings) for family in chosen.families]
    with progress.step("model selection", len(candidates) * settings.model.folds) as advance:
        fitted = cross_fit(dataset, {"": (settings.features, candidates)}, settings, advance)
    members = [one for one in fitted if one.name in chosen.ensemble]
    return [*fitted, blended(members, dataset.target), stacked(members, dataset.target)]
