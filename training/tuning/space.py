"""From the search space to the parameters of one trial."""

from __future__ import annotations

from typing import Any

from optuna.trial import Trial

from training.settings import DRAWING_ROWS, ModelSettings, SearchSpace, TreeParameters, WholeRange


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """The searched parameters of a trial, and what they need to work."""
    suggested: dict[str, Any] = {}
    for name, searched in space:
        if isinstance(searched, WholeRange):
            suggested[name] = trial.suggest_int(name, searched.low, searched.high, log=searched.log)
        else:
            suggested[name] = trial.suggest_float(name, searched.low, searched.high, log=searched.log)
    return suggested | DRAWING_ROWS


def tuned(model: ModelSettings, suggested: dict[str, Any]) -> ModelSettings:
    """The model settings with the searched parameters in place of their own."""
    parameters = TreeParameters.model_validate({**model.parameters.model_dump(), **suggested})
    return model.model_copy(update={"parameters": parameters})
