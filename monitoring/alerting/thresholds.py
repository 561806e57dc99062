"""The limits that the rules share with the judgement of drift and performance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Limits from the other sections of configs/monitoring.yaml.

    Attributes
    ----------
    moderate, major : PSI from which to look into a shift, and from which to act
    floor : AUC below which the model no longer ranks well enough
    """

    moderate: float
    major: float
    floor: float
