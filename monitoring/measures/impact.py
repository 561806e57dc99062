"""Approvals by group, and the adverse impact ratio of two groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from .metrics import Estimate


@dataclass(frozen=True, slots=True)
class Group:
    """How many applicants of one protected group there are, and how many of them are approved."""

    attribute: str
    name: str
    rows: int
    approved: int

    @classmethod
    def of(cls, attribute: str, name: str, members: NDArray[np.bool_], approved: NDArray[np.bool_]) -> Self:
        """The group of the rows that are `members`, both arrays of shape (n,)."""
        return cls(attribute, name, int(np.count_nonzero(members)), int(np.count_nonzero(members & approved)))

    @property
    def share(self) -> float:
        """Share of approvals; NaN for no applicants."""
        return self.approved / self.rows if self.rows else np.nan

    def __str__(self) -> str:
        return f"{self.attribute} {self.name}"


@dataclass(frozen=True, slots=True)
class ImpactRatio:
    """Adverse impact ratio: share of approvals of `group` over that of `reference`."""

    group: Group
    reference: Group

    @property
    def value(self) -> float:
        """The ratio; 1 where neither group has an approval, infinite where only the reference has none."""
        if not self.reference.approved:
            return np.inf if self.group.approved else 1.0
        return self.group.share / self.reference.share

    def estimate(self, confidence: float) -> Estimate:
        """The ratio with its interval on the logarithmic scale; NaN ends where either group has no approval.

        Source: D. Katz and others, Biometrics 34, 1978.
        """
        if not (self.group.approved and self.reference.approved):
            return Estimate(self.value, np.nan, np.nan)
        pairs = [(each.approved, each.rows) for each in (self.group, self.reference)]
        error = np.sqrt(sum(1 / approved - 1 / rows for approved, rows in pairs))
        factor = float(np.exp(norm.ppf(0.5 + confidence / 2) * error))
        return Estimate(self.value, self.value / factor, self.value * factor)
