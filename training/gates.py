"""Gates: what a model must reach before it is promoted."""

from __future__ import annotations

from dataclasses import dataclass

from .evaluation import Evaluation
from .settings import GateSettings


@dataclass(frozen=True, slots=True)
class Gate:
    """One requirement, what was measured, and whether it is met."""

    name: str
    measured: float
    limit: float
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.measured:.4f}, limit {self.limit:g}, {'passed' if self.passed else 'FAILED'}"


def judge(evaluation: Evaluation, settings: GateSettings) -> tuple[Gate, ...]:
    """Every gate, judged on out-of-fold rows."""
    low, ece, cost = evaluation["auc"].low, evaluation["ece"].value, evaluation["cost_ratio"].value
    return (
        Gate("AUC, lower end of its interval", low, settings.min_auc, low >= settings.min_auc),
        Gate("ECE", ece, settings.max_ece, ece <= settings.max_ece),
        Gate("cost against the cheaper blanket rule", cost, settings.max_cost_ratio, cost <= settings.max_cost_ratio),
    )
