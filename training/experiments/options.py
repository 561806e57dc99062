"""The price of what a lender may have to give up: protected attributes, and freedom of direction."""

from __future__ import annotations

from collections.abc import Mapping

from scoring import Progress
from training.data import Dataset
from training.settings import Family, ModelSettings, TrainingSettings

from .cross_fitting import CrossFitted, cross_fit
from .families import candidate


def options(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> list[CrossFitted]:
    """Out-of-fold predictions of the delivered kind of model under each profile, and with monotone features."""
    chosen = settings.experiments.options
    free = candidate(Family.LIGHTGBM, settings.model_copy(update={"model": _directed(settings.model, {})}))
    directed = candidate(
        Family.LIGHTGBM, settings.model_copy(update={"model": _directed(settings.model, chosen.monotone)})
    )
    groups = {
        name: (settings.features.model_copy(update={"without": without}), [free])
        for name, without in chosen.profiles.items()
    }
    groups["monotone"] = (settings.features, [directed])
    with progress.step("options", len(groups) * settings.model.folds) as advance:
        return cross_fit(dataset, groups, settings, advance)


def _directed(model: ModelSettings, directions: Mapping[str, int]) -> ModelSettings:
    return ModelSettings.model_validate(model.model_dump() | {"monotone": dict(directions)})
