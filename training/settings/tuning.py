"""The settings of the hyper-parameter search: the part `tuning` of configs/training.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from features import Settings

from .address import address_fault
from .tree_parameters import DRAWING_ROWS, TreeParameters


class Objective(StrEnum):
    """What the search optimizes, measured on the judged rows of each fold at the policy's cut-off."""

    AUC = "auc"
    AVERAGE_PRECISION = "average_precision"
    COST = "cost_per_applicant"
    F_BETA = "f_beta"
    """With the beta of the part `evaluation`."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """`minimize` for the cost, else `maximize`."""
        return "minimize" if self is Objective.COST else "maximize"


class _Range(Settings):
    log: bool = False
    """Whether orders of magnitude are searched evenly."""


class RealRange(_Range):
    """Real numbers from `low` to `high`."""

    low: float
    high: float

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError("low must be below high, and above 0 for a logarithmic range")
        return self


class WholeRange(_Range):
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ValueError("low must be below high, and above 0 for a logarithmic range")
        return self


class SearchSpace(Settings):
    """Ranges of LightGBM's parameters; the others keep the value of the part `model`."""

    learning_rate: RealRange
    num_leaves: WholeRange
    max_depth: WholeRange
    min_child_samples: WholeRange
    subsample: RealRange
    colsample_bytree: RealRange
    reg_alpha: RealRange
    reg_lambda: RealRange

    @model_validator(mode="after")
    def _ends_are_legal(self) -> Self:
        for end in ("low", "high"):
            TreeParameters.model_validate({name: getattr(searched, end) for name, searched in self} | DRAWING_ROWS)
        return self


class Pruning(Settings):
    """When a trial is given up: its mean over the folds so far is worse than the median of the earlier trials'."""

    startup_trials: int = Field(ge=1)
    """Trials that are never given up."""
    warmup_folds: int = Field(ge=0)
    """Folds after the first that every trial gets."""


class NestedSettings(Settings):
    """The search repeated within outer folds, so that its winner is judged on rows that no trial saw."""

    folds: int = Field(ge=2, le=20)
    trials: int = Field(ge=1)


def _known_address(address: str) -> str:
    if fault := address_fault(address):
        raise ValueError(fault)
    return address


class TuningSettings(Settings):
    """The search."""

    experiment: str = Field(min_length=1)
    study: str = Field(min_length=1)
    storage: Annotated[str, AfterValidator(_known_address)] = Field(min_length=1)
    """Address of the database that keeps the trials; several machines may share one."""
    abandoned_after_seconds: int = Field(ge=1)
    """A trial of another machine that finished no fold for so long is taken over."""
    objective: Objective
    trials: int = Field(ge=1, le=100_000)
    folds: int = Field(ge=2, le=20)
    startup_trials: int = Field(ge=1)
    """Trials drawn at random before the sampler learns from them."""
    pruning: Pruning
    nested: NestedSettings | None
    space: SearchSpace
