"""The file in which a search leaves its winner, and from which a training takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from features import Settings
from training.errors import OutputError
from training.settings import TrainingSettings


class Winner(Settings):
    """Where tuned parameters come from."""

    study: str
    objective: str
    value: float
    """Mean over the folds that the search looked at: optimistic."""
    trials: int
    data_sha256: str


class TunedParameters(Settings):
    """Parameters of LightGBM that replace those of the settings, and where they come from."""

    parameters: dict[str, Any]
    winner: Winner

    @classmethod
    def apply(cls, path: Path, settings: TrainingSettings) -> TrainingSettings:
        """The settings with the parameters in the file in place of their own; SettingsError if they do not fit."""
        values = settings.model_dump(mode="json")
        values["model"]["parameters"] |= cls.load(path).parameters
        return TrainingSettings.checked(values, path)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all; OutputError if it cannot be written."""
        partial = path.with_name(f"{path.name}.partial")
        try:
            partial.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))
            partial.replace(path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
