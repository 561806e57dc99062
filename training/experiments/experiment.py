"""The experiments by name, and what one does: fit, compare, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scoring import Progress
from training.data import Dataset
from training.evaluation import decision_policy
from training.settings import TrainingSettings

from .comparison import Compared, compare
from .cross_fitting import CrossFitted
from .feature_engineering import feature_engineering
from .model_selection import model_selection
from .options import options
from .recording import record_experiment


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question that cross-validation answers."""

    name: str
    fit: Callable[[Dataset, TrainingSettings, Progress], list[CrossFitted]]

    def run(self, dataset: Dataset, settings: TrainingSettings, progress: Progress) -> tuple[Compared, ...]:
        """Every candidate beside the best, recorded in MLflow."""
        candidates = self.fit(dataset, settings, progress)
        with progress.step("compare"):
            policy = decision_policy(settings.policy)
            compared = compare(candidates, dataset.target, policy, settings.evaluation, seed=settings.seed)
        with progress.step("MLflow"):
            tracked = getattr(settings.experiments, self.name).experiment
            record_experiment(tracked, compared, dataset, settings)
        return compared


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("model_selection", model_selection),
        Experiment("feature_engineering", feature_engineering),
        Experiment("options", options),
    )
}
"""By name, in the order in which they run."""
