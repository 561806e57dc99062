"""Estimated performance, before outcomes are known: what calibrated PDs themselves say.

Confidence-based performance estimation: if each PD is right, the outcomes are coin throws with known odds, so expected
AUC and default rate follow from the PDs alone. Method: J. Białek and others, arXiv 2401.08348, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitoring.measures import Estimate, grouped_auc_estimate, normal_estimate
from monitoring.settings import PerformanceSettings

from .cohort import Cohort, Floats

ASSUMPTIONS = (
    "the PDs are calibrated for these applicants",
    "what a PD depends on still means the same: there is no concept drift",
    "applicants are like those that the model was fitted on: see the drift report",
)
"""What the estimate rests on; none of it can be seen without outcomes."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """AUC and default rate that the PDs of `rows` decisions imply, with the interval that chance alone gives."""

    rows: int
    auc: Estimate
    default_rate: Estimate


def estimate(probability: Floats, settings: PerformanceSettings) -> Estimated:
    """The performance that PDs, shape (n,), imply."""
    cohort = Cohort.of(probability, None, settings.groups)
    random = np.random.default_rng(settings.seed)
    samples = [_area(cohort.drawn(random)) for _ in range(settings.resamples)]
    tail = (1 - settings.confidence) / 2
    known = [area for area in samples if np.isfinite(area)]
    low, high = np.quantile(known, [tail, 1 - tail]) if known else (np.nan, np.nan)
    variance = float((cohort.rows * cohort.probability * (1 - cohort.probability)).sum())
    rows = len(probability)
    rate = normal_estimate(float(probability.mean()), np.sqrt(variance) / rows, settings.confidence)
    return Estimated(rows, Estimate(expected_auc(cohort), float(low), float(high)), rate)


def _area(cohort: Cohort) -> float:
    return grouped_auc_estimate(cohort.bad, cohort.good, 0.5).value


def expected_auc(cohort: Cohort) -> float:
    """The expected number of pairs in the right order over that of pairs; nobody is a pair with himself."""
    bad, good = cohort.expected.bad, cohort.expected.good
    itself = (cohort.rows * cohort.probability * (1 - cohort.probability)).sum()
    right = (bad * (np.cumsum(good) - good / 2)).sum() - itself / 2
    pairs = bad.sum() * good.sum() - itself
    return float(right / pairs) if pairs > 0 else float("nan")
