"""Registered versions that compete, without training each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import bentoml
from bentoml.exceptions import BentoMLException
from mlflow import MlflowClient

from training.dataset import Dataset
from training.registry.promotion import judge, promote
from training.registry.registry import Registered, aliases, changes, versions
from training.registry.tracking import tracked_run
from training.run import track
from training.settings import TrainingSettings
from training.trainer import TrainedModel


@dataclass(frozen=True)
class Contest:
    """A registered model of three versions: two of a sound model, and one whose recorded PDs are those of a coin."""

    dataset: Dataset
    trained: TrainedModel
    settings: TrainingSettings
    first: Registered
    second: Registered
    bad: Registered

    @property
    def name(self) -> str:
        return self.settings.tracking.model

    def promote(self, challenger: Registered, **options: bool) -> None:
        promote(judge(challenger, self.dataset, self.settings, **options), datetime.now(UTC))

    def in_charge(self) -> tuple[str | None, str | None, str | None]:
        """The version that alias, history and store have in charge."""
        history = changes(self.name)
        return aliases(self.name).get("champion"), history[-1].version if history else None, self.served()

    def served(self) -> str | None:
        """The version that a service which starts now would load."""
        try:
            return str(bentoml.models.get(self.name).info.metadata["registered_version"])
        except BentoMLException:
            return None

    def reset(self) -> None:
        """Nobody is in charge, and the store is empty."""
        client = MlflowClient()
        for alias in aliases(self.name):
            client.delete_registered_model_alias(self.name, alias)
        for key in client.get_registered_model(self.name).tags:
            client.delete_registered_model_tag(self.name, key)
        for version in versions(self.name):
            for key in version.tags:
                if key.startswith("judged.") or key == "gates":
                    client.delete_model_version_tag(self.name, str(version.version), key)
        for model in bentoml.models.list():
            if model.tag.name == self.name:
                bentoml.models.delete(model.tag)


def register(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings) -> Registered:
    """The next version."""
    with tracked_run(settings.tracking, name="contest") as run_id:
        return track(dataset, trained, settings, run_id=run_id)


def contest(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings, name: str) -> Contest:
    """Three versions of the model `name`."""
    own = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"model": name})})
    coin = replace(trained, probabilities=trained.probabilities[::-1].copy())
    return Contest(dataset, trained, own, *(register(dataset, model, own) for model in (trained, trained, coin)))
