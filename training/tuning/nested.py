"""What tuning is worth on rows that it never saw: the whole search, repeated within outer folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset
from training.evaluation import Estimate, auc_difference, auc_estimate
from training.fitting import splits
from training.settings import DRAWING_ROWS, NestedSettings, TrainingSettings

from .objective import fitted_margins, score_of, tuning_fold, tuning_folds
from .study import open_study, run_trials, winner


@dataclass(frozen=True, slots=True)
class NestedEstimate:
    """What the search promised and what its winners kept.

    Attributes
    ----------
    promised : for each outer fold the winner's value on the folds that chose it
    kept : for each outer fold the same winner's value on rows that no trial saw
    auc : AUC of the winners on those rows
    gain : AUC of the winners minus AUC of the parameters in the settings, on the same rows
    """

    promised: tuple[float, ...]
    kept: tuple[float, ...]
    auc: Estimate
    gain: Estimate

    @property
    def optimism(self) -> float:
        """Mean of what was promised minus mean of what was kept, in the objective's unit."""
        return float(np.mean(self.promised) - np.mean(self.kept))


def nested_estimate(
    study: str,
    dataset: Dataset,
    settings: TrainingSettings,
    nested: NestedSettings,
    *,
    progress: Callable[[], object] = lambda: None,
) -> NestedEstimate:
    """The estimate for a search of `nested.trials` trials; its studies are named after `study` and the outer fold."""
    promised, kept = [], []
    margins, plain = np.empty(len(dataset)), np.empty(len(dataset))
    for i, (fitted, judged) in enumerate(splits(dataset.target, nested.folds, seed=settings.seed)):
        inner = dataset.take(fitted)
        search = open_study(f"{study}, outer fold {i}", inner, settings)
        folds = tuning_folds(inner, settings.tuning.folds, settings)
        run_trials(search, nested.trials, folds, settings, progress=progress)
        best = winner(search)
        outer = tuning_fold(dataset, fitted, judged, settings)
        margins[judged], _ = fitted_margins(outer, best.params | DRAWING_ROWS, settings)
        plain[judged], _ = fitted_margins(outer, {}, settings)
        promised.append(float(best.values[0]))
        kept.append(score_of(outer.judged_target, margins[judged], settings))
    return _estimate(dataset.target, margins, plain, promised, kept, settings.evaluation.confidence)


def _estimate(
    target: NDArray[np.int64],
    margins: NDArray[np.float64],
    plain: NDArray[np.float64],
    promised: list[float],
    kept: list[float],
    confidence: float,
) -> NestedEstimate:
    return NestedEstimate(
        promised=tuple(promised),
        kept=tuple(kept),
        auc=auc_estimate(target, margins, confidence),
        gain=auc_difference(target, margins, plain, confidence),
    )
