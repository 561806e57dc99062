"""A challenger and the champion on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring import DecisionPolicy
from training.evaluation import Estimate, auc_difference, normal_estimate

Target = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired differences, challenger minus champion.

    `auc` carries DeLong's paired interval, `cost` per applicant that of the mean of the rows' differences.
    """

    auc: Estimate
    cost: Estimate


def compare(
    target: Target, challenger: Probabilities, champion: Probabilities, policy: DecisionPolicy, confidence: float
) -> Comparison:
    """The differences of two sets of PDs of shape (n,) for the same outcomes, at one cut-off and one pair of costs.

    The policy is one because the models are compared, not the policies that they came with. The intervals say how far
    other rows could move the difference; they do not say how far training again could.
    """
    difference = _costs(target, challenger, policy) - _costs(target, champion, policy)
    error = float(difference.std(ddof=1) / np.sqrt(len(target)))
    return Comparison(
        auc=auc_difference(target, challenger, champion, confidence),
        cost=normal_estimate(float(difference.mean()), error, confidence),
    )


def _costs(target: Target, probability: Probabilities, policy: DecisionPolicy) -> NDArray[np.float64]:
    declined = policy.predictions(probability) == 1
    return np.asarray(np.where(target == 1, policy.cost_fn * ~declined, policy.cost_fp * declined), dtype=np.float64)
