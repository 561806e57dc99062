"""The three external scores: noisy views of one risk factor each, and of what else their makers know."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from .columns import Booleans, Columns, Floats, effect, missing_where
from .copula import Marginal, blend, chance
from .drift import Population
from .employment import Employment
from .person import Person
from .region import Region
from .risk import Latent

_PROBABILITIES = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
_FIRST = Marginal(
    (
        0.014, 0.06, 0.083, 0.121, 0.16, 0.215, 0.295, 0.37, 0.439, 0.506, 0.57, 0.638, 0.709, 0.785, 0.832, 0.862,
        0.892, 0.95,
    ),
    _PROBABILITIES,
)  # fmt: skip
_SECOND = Marginal(
    (
        1e-5, 0.013, 0.03, 0.071, 0.136, 0.222, 0.341, 0.44, 0.512, 0.566, 0.607, 0.645, 0.682, 0.722, 0.747, 0.765,
        0.782, 0.855,
    ),
    _PROBABILITIES,
)  # fmt: skip
_THIRD = Marginal(
    (
        5e-4, 0.035, 0.061, 0.104, 0.151, 0.223, 0.327, 0.403, 0.472, 0.532, 0.589, 0.64, 0.693, 0.749, 0.785, 0.813,
        0.833, 0.883,
    ),
    _PROBABILITIES,
)  # fmt: skip
_THIRD_STEPS = 120
_SECOND_MISSING = 0.0022
_THIRD_MISSING_WITH_FILE = 0.072


def draw_scores(
    rng: np.random.Generator,
    *,
    latent: Latent,
    person: Person,
    employment: Employment,
    region: Region,
    filed: Booleans,
    population: Population,
) -> Columns:
    """EXT_SOURCE_1 .. 3, in 0..1; the third comes from the bureau, so it is missing for clients not `filed` there."""
    size = len(filed)
    absent = (
        chance(rng, _first_missing(person, employment, population), size),
        chance(rng, _SECOND_MISSING, size),
        ~filed | chance(rng, _THIRD_MISSING_WITH_FILE, size),
    )
    drawn = (
        _first(rng, latent, person, employment),
        _second(rng, latent, employment, region),
        _third(rng, latent, person),
    )
    names = (f"EXT_SOURCE_{i}" for i in (1, 2, 3))
    return {name: missing_where(no, at) for name, no, at in zip(names, absent, drawn, strict=True)}


def _first(rng: np.random.Generator, latent: Latent, person: Person, employment: Employment) -> Floats:
    """Rises with age; women and graduates score higher."""
    traits = 0.55 * (person.female - 0.66) + 0.35 * (employment.educated - 0.24)
    return _FIRST.at(0.95 * blend(rng, (-0.72, latent.stability), (0.64, person.age_score)) + traits + 0.05)


def _second(rng: np.random.Generator, latent: Latent, employment: Employment, region: Region) -> Floats:
    """Knows the region and, a little, the income."""
    return _SECOND.at(blend(rng, (-0.82, latent.discipline), (0.3, region.score), (0.08, employment.income_score)))


def _third(rng: np.random.Generator, latent: Latent, person: Person) -> Floats:
    """Takes some hundreds of distinct values, as the real score does."""
    scores = blend(rng, (-0.86, latent.burden), (0.2, person.age_score))
    return _THIRD.at(np.rint(scores * _THIRD_STEPS) / _THIRD_STEPS)


def _first_missing(person: Person, employment: Employment, population: Population) -> Floats:
    """Probability that the first score is missing, shape (n,): highest without an employer, lower for graduates."""
    by_employment = effect(employment.educated, -0.45) + effect(~employment.employed, 1.1)
    odds = logit(population.source_1_missing) - 0.14 + by_employment + effect(~person.female, 0.15)
    return np.asarray(expit(odds), dtype=np.float64)
