"""The latent risk of a client and the model of TRUE_PD.

Four factors, never written to a file, drive the external scores, the histories and some application columns. The
log-odds of default are linear in them, plus the effects of what the application says, plus interactions. Effects of
the application's own columns are stated next to those columns, as `log_odds` of each part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .columns import Floats

_CORRELATION = 0.3
_INTERCEPT = -4.24
_STABILITY, _DISCIPLINE, _BURDEN, _CONDUCT = 0.42, 0.42, 0.46, 0.32
_COMPOUNDING = 0.1
_STRAIN, _STRAIN_UNDER_BURDEN = 0.12, 0.12
_KNOWN_BY_HISTORY = 0.7


@dataclass(frozen=True, slots=True)
class Latent:
    """Standard normal risk factors, shape (n,) each; higher is riskier.

    `stability` of the client's life (EXT_SOURCE_1, tenure, phone), `discipline` in paying (EXT_SOURCE_2) and `burden`
    of debt elsewhere (EXT_SOURCE_3, enquiries) are correlated. `conduct` is independent of them and shows in no
    application column, only in the histories.
    """

    stability: Floats
    discipline: Floats
    burden: Floats
    conduct: Floats

    @property
    def lateness(self) -> Floats:
        """How badly bills are paid, standard normal: discipline and conduct, as histories show it."""
        return _mixed(self.discipline, self.conduct)

    @property
    def leverage(self) -> Floats:
        """How much debt is carried, standard normal: burden and conduct, as histories show it."""
        return _mixed(self.burden, self.conduct)


def _mixed(factor: Floats, conduct: Floats) -> Floats:
    return _KNOWN_BY_HISTORY * factor + math.sqrt(1 - _KNOWN_BY_HISTORY**2) * conduct


def draw_latent(rng: np.random.Generator, size: int) -> Latent:
    """Factors of `size` clients."""
    shared = math.sqrt(_CORRELATION) * rng.standard_normal(size)
    own = math.sqrt(1 - _CORRELATION) * rng.standard_normal((3, size))
    stability, discipline, burden = shared + own
    return Latent(stability, discipline, burden, conduct=rng.standard_normal(size))


def true_pd(latent: Latent, *, visible: Floats, annuity_to_income: Floats) -> Floats:
    """Probability of default, shape (n,), in (0, 1).

    `visible` is the sum of the application's own effects on the log-odds.
    """
    return expit(_INTERCEPT + visible + _factors(latent) + _interactions(latent, annuity_to_income))


def _factors(latent: Latent) -> Floats:
    shown = _STABILITY * latent.stability + _DISCIPLINE * latent.discipline + _BURDEN * latent.burden
    return shown + _CONDUCT * latent.conduct


def _interactions(latent: Latent, annuity_to_income: Floats) -> Floats:
    """Two bad factors together are worse than their sum; a heavy instalment hurts most where there is other debt."""
    burden = np.maximum(latent.burden, 0)
    strain = np.clip((annuity_to_income - 0.2) / 0.1, 0, 3)
    return _COMPOUNDING * np.maximum(latent.stability, 0) * burden + strain * (_STRAIN + _STRAIN_UNDER_BURDEN * burden)
