"""Candidates compared on the same rows: by paired differences, not by point estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring import DecisionPolicy
from training.evaluation import Estimate, Evaluation, auc, auc_difference, evaluate, normal_estimate
from training.settings import EvaluationSettings

from .cross_fitting import CrossFitted

Target = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One candidate beside the best.

    `auc_behind` and `cost_behind` are its AUC minus the best one's and its cost per applicant minus the best one's, on
    the same rows, with intervals that hold together for all candidates (Bonferroni). The best itself has no
    difference.
    """

    candidate: CrossFitted
    evaluation: Evaluation
    fold_auc: tuple[float, ...]
    auc_behind: Estimate | None
    cost_behind: Estimate | None

    @property
    def verdict(self) -> str:
        """`best`; `worse` where the whole interval of the AUC difference is below 0; else `as good`."""
        if self.auc_behind is None:
            return "best"
        return "worse" if self.auc_behind.high < 0 else "as good"


def compare(
    candidates: Sequence[CrossFitted],
    target: Target,
    policy: DecisionPolicy,
    settings: EvaluationSettings,
    *,
    seed: int,
) -> tuple[Compared, ...]:
    """The candidates, the best AUC first, each with its paired differences to the best."""
    ordered = sorted(candidates, key=lambda candidate: -auc(target, candidate.probabilities))
    confidence = 1 - (1 - settings.confidence) / max(1, len(ordered) - 1)
    return tuple(_compared(one, ordered[0], target, policy, settings, confidence, seed) for one in ordered)


def _compared(
    one: CrossFitted,
    best: CrossFitted,
    target: Target,
    policy: DecisionPolicy,
    settings: EvaluationSettings,
    confidence: float,
    seed: int,
) -> Compared:
    behind = None if one is best else auc_difference(target, one.probabilities, best.probabilities, confidence)
    dearer = None if one is best else _cost_difference(target, one, best, policy, confidence)
    return Compared(
        candidate=one,
        evaluation=evaluate(target, one.probabilities, policy, settings, seed=seed),
        fold_auc=tuple(auc(target[rows], one.probabilities[rows]) for rows in one.judged),
        auc_behind=behind,
        cost_behind=dearer,
    )


def _cost_difference(
    target: Target, one: CrossFitted, best: CrossFitted, policy: DecisionPolicy, confidence: float
) -> Estimate:
    difference = _costs(target, one, policy) - _costs(target, best, policy)
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return normal_estimate(float(difference.mean()), error, confidence)


def _costs(target: Target, one: CrossFitted, policy: DecisionPolicy) -> NDArray[np.float64]:
    """Cost of each row's decision, shape (n,)."""
    declined = policy.predictions(one.probabilities)
    return np.where(target == 1, policy.cost_fn * (1 - declined), policy.cost_fp * declined)
