"""Ensembles of out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from .candidate import log_odds
from .cross_fitting import CrossFitted, cross_fitted


def blended(members: Sequence[CrossFitted], target: NDArray[np.int64]) -> CrossFitted:
    """The mean of the members' log-odds."""
    return _ensemble("blend", members, _stacked(members).mean(axis=1), target)


def stacked(members: Sequence[CrossFitted], target: NDArray[np.int64]) -> CrossFitted:
    """A logistic regression on the members' log-odds; for each fold it is fitted on the rows of the others.

    Source: D. Wolpert, "Stacked generalization", Neural Networks 5, 1992.
    """
    inputs = _stacked(members)
    margins = np.empty(len(target))
    for judged in members[0].judged:
        others = np.ones(len(target), dtype=np.bool_)
        others[judged] = False
        fit = LogisticRegression(C=np.inf, max_iter=1000).fit(inputs[others], target[others])
        margins[judged] = fit.decision_function(inputs[judged])
    return _ensemble("stack", members, margins, target)


def _stacked(members: Sequence[CrossFitted]) -> NDArray[np.float64]:
    return np.column_stack([log_odds(member.probabilities) for member in members])


def _ensemble(
    name: str, members: Sequence[CrossFitted], margins: NDArray[np.float64], target: NDArray[np.int64]
) -> CrossFitted:
    parameters = {"members": ",".join(member.name for member in members)}
    seconds = sum(member.seconds for member in members)
    return cross_fitted(name, parameters, margins, target, members[0].judged, seconds)
