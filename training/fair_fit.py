"""A fit may know the protected groups of its rows: it weighs the rows, or penalizes scores that differ by group.

No feature and no decision reads a group, and the model that is delivered holds none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from features.transformer import Columns
from training.blocks import StoredColumns
from training.errors import TrainingError
from training.gates import members
from training.settings import ModelSettings

Matrix = NDArray[np.float64]
Margins = NDArray[np.float64]
Target = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FairFit:
    """What the protected groups of n rows ask of a fit that knows them; the trees never read a group.

    Attributes
    ----------
    target : outcomes, shape (n,)
    weights : mean 1, shape (n,): F. Kamiran and T. Calders, "Data preprocessing techniques for classification without
        discrimination", Knowledge and Information Systems 33, 2012
    groups : membership in each penalized group, standardized, shape (n, k)
    strengths : weight of the squared covariance of log-odds and membership, shape (k,)
    base : log-odds of all rows that are fitted
    """

    target: Target
    weights: NDArray[np.float64]
    groups: Matrix
    strengths: NDArray[np.float64]
    base: float

    @property
    def penalizes(self) -> bool:
        """Whether the loss has a penalty, beside the weights."""
        return len(self.strengths) > 0

    def take(self, rows: NDArray[np.intp]) -> FairFit:
        """The same of some of the rows."""
        return replace(self, target=self.target[rows], weights=self.weights[rows], groups=self.groups[rows])

    def gradients(self, margins: Margins, _: lgb.Dataset) -> tuple[Margins, Margins]:
        """First and second derivatives of the loss by the margin of each row, as LightGBM asks for."""
        chance = expit(margins)
        pushed = self.groups @ (self.strengths * self._covariances(margins))
        # All rows of a group move together. A row's own curvature is too small a bound, and steps would overshoot; the
        # sum of its row of second derivatives is large enough (diagonal dominance).
        strength = np.abs(self.groups)
        curved = strength @ (self.strengths * strength.mean(axis=0))
        return self.weights * (chance - self.target) + pushed, self.weights * chance * (1 - chance) + curved

    def loss(self, margins: Margins, _: lgb.Dataset) -> tuple[str, float, bool]:
        """The loss that the derivatives are of, per row: its name, its value, and that less is better."""
        logistic = np.logaddexp(0.0, margins) - self.target * margins
        penalty = (self.strengths * self._covariances(margins) ** 2).sum() / 2
        return "penalized", float((self.weights * logistic).mean() + penalty), False

    def _covariances(self, margins: Margins) -> NDArray[np.float64]:
        return np.asarray(margins @ self.groups / len(margins), dtype=np.float64)


def fair_fit(columns: Columns | StoredColumns, target: Target, model: ModelSettings) -> FairFit | None:
    """What the settings make the groups of these rows ask of the fit; None if nothing, TrainingError by blocks."""
    stated = model.fairness
    if not stated.stated:
        return None
    if not isinstance(columns, Columns):
        raise TrainingError("model.fairness: a fit by blocks or on several machines knows no groups")
    weights = np.ones(len(target))
    for attribute, strength in stated.reweighing.items():
        weights *= _independent(columns, attribute, target) ** strength
    marked = [
        (rows.astype(np.float64), strength)
        for attribute, strength in stated.penalty.items()
        for rows in members(columns, attribute).values()
        if 0 < np.count_nonzero(rows) < len(rows)
    ]
    groups = np.array([rows for rows, _ in marked]).reshape(len(marked), len(target)).T
    shares = groups.mean(axis=0)
    return FairFit(
        target=target,
        weights=weights / weights.mean(),
        groups=(groups - shares) / np.sqrt(shares * (1 - shares)),
        strengths=np.array([strength for _, strength in marked]),
        base=float(logit(target.mean())),
    )


def refuse_fairness(model: ModelSettings) -> None:
    """TrainingError if the settings ask a fit to read groups: that of a search or an experiment reads none."""
    if stated := model.fairness.stated:
        raise TrainingError(f"model.fairness: states {', '.join(stated)}, and no fit of this command reads a group")


def _independent(columns: Columns, attribute: str, target: Target) -> NDArray[np.float64]:
    """How much rarer each row's group and outcome are together than if neither told of the other, shape (n,)."""
    group = np.zeros(len(target), dtype=np.intp)  # those who are in no declared group are one more
    for place, rows in enumerate(members(columns, attribute).values(), start=1):
        group[rows] = place
    together = np.zeros((group.max() + 1, 2))
    np.add.at(together, (group, target), 1.0)
    expected = together.sum(axis=1)[group] * together.sum(axis=0)[target] / len(target)
    return np.asarray(expected / together[group, target], dtype=np.float64)


def shaped(data: lgb.Dataset, fair: FairFit | None) -> dict[str, Any]:
    """Give the rows their weights and their first margin; return the parameters of LightGBM that go with them."""
    if fair is None:
        return {}
    data.set_weight(fair.weights)
    if not fair.penalizes:
        return {}
    data.set_init_score(np.full(len(fair.target), fair.base))
    return {"objective": fair.gradients, "metric": "None"}


def raised(booster: lgb.Booster, fair: FairFit | None) -> lgb.Booster:
    """The booster with the first margin inside its first tree, where LightGBM's own objective has it."""
    if fair is not None and fair.penalizes:
        first = booster.dump_model(num_iteration=1)["tree_info"][0]
        for leaf in range(first["num_leaves"]):
            booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + fair.base)
    return booster
