"""What others report about the client: enquiries at the credit bureau, and the people around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import Booleans, Columns, Floats, missing_where
from .copula import Counts, blend, chance
from .drift import Population
from .risk import Latent

_OBSERVED = Counts(
    (0.536, 0.16, 0.0945, 0.065, 0.048, 0.031, 0.023, 0.0135, 0.009, 0.0065, 0.004, 0.003, 0.002, 0.001, 0.001)
)
_UNKNOWN_CIRCLE = 0.0034
_DEFAULTED, _STILL_AFTER_60, _NOT_OBSERVED_60 = 0.1, 0.7, 0.011
_ENQUIRY_BURDEN = 0.15


@dataclass(frozen=True, slots=True)
class Circle:
    """Counts of people around the client, observed and defaulted at 30 and 60 days past due; NaN where unknown."""

    observed_30: Floats
    defaulted_30: Floats
    observed_60: Floats
    defaulted_60: Floats

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "OBS_30_CNT_SOCIAL_CIRCLE": self.observed_30,
            "DEF_30_CNT_SOCIAL_CIRCLE": self.defaulted_30,
            "OBS_60_CNT_SOCIAL_CIRCLE": self.observed_60,
            "DEF_60_CNT_SOCIAL_CIRCLE": self.defaulted_60,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default."""
        return 0.15 * np.minimum(np.nan_to_num(self.defaulted_60), 3)


def draw_circle(rng: np.random.Generator, latent: Latent) -> Circle:
    """The people around each client, who default more where the client's life is unstable."""
    size = len(latent.stability)
    observed = _OBSERVED.at(rng.standard_normal(size)).astype(np.int64)
    probability = np.minimum(_DEFAULTED * np.exp(0.3 * latent.stability), 1.0)
    defaulted = rng.binomial(observed, probability)
    defaulted_60 = rng.binomial(defaulted, _STILL_AFTER_60)
    observed_60 = np.maximum(observed - rng.binomial(observed, _NOT_OBSERVED_60), defaulted_60)
    unknown = chance(rng, _UNKNOWN_CIRCLE, size)
    return Circle(*(missing_where(unknown, counts) for counts in (observed, defaulted, observed_60, defaulted_60)))


def draw_enquiries(rng: np.random.Generator, latent: Latent, filed: Booleans, population: Population) -> Columns:
    """AMT_REQ_CREDIT_BUREAU_*: all missing for clients not `filed` at the bureau; more enquiries under more debt."""
    columns: Columns = {}
    for window, counts in population.enquiries.items():
        scores = blend(rng, (_ENQUIRY_BURDEN, latent.burden))
        columns[f"AMT_REQ_CREDIT_BUREAU_{window}"] = missing_where(~filed, counts.at(scores))
    return columns
