"""The region that the client lives in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from .category import Category, Shares, draw_by
from .columns import Columns, Floats, to_decimals
from .copula import Marginal

_REGIONS = {"1": 6.0, "2": 40.0, "3": 25.0}
_RATING = Shares.of({"1": 0.105, "2": 0.736, "3": 0.159})
_CITY_RATING = {
    "1": Shares.of({"1": 1.0, "2": 0.0, "3": 0.0}),
    "2": Shares.of({"1": 0.006, "2": 0.994, "3": 0.0}),
    "3": Shares.of({"1": 0.017, "2": 0.076, "3": 0.907}),
}
_POPULATION = (
    Marginal((0.0005, 0.001, 0.003, 0.009, 0.026, 0.046, 0.056, 0.0725, 0.0725, 0.0725, 0.0725)),
    Marginal((0.0003, 0.0015, 0.004, 0.007, 0.0115, 0.0189, 0.027, 0.0326, 0.0358, 0.0358, 0.0358)),
    Marginal((0.0005, 0.001, 0.002, 0.0035, 0.0095, 0.018, 0.0195, 0.0207, 0.0252, 0.0282, 0.031)),
)
_RATING_STANDING = {"1": 1.8, "2": 0.0, "3": -1.4}
_RATING_EFFECTS = {"1": -0.35, "2": 0.0, "3": 0.3}


@dataclass(frozen=True, slots=True)
class Region:
    """Rating ("1" best to "3"), rating with the city, normalized population; shape (n,) each.

    `score` is standard normal, high in large and well-rated regions.
    """

    rating: Category
    city_rating: Category
    population: Floats
    score: Floats

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "REGION_POPULATION_RELATIVE": self.population,
            "REGION_RATING_CLIENT": self.rating.codes.astype(np.int64) + 1,
            "REGION_RATING_CLIENT_W_CITY": self.city_rating.codes.astype(np.int64) + 1,
        }

    def log_odds(self) -> Floats:
        """Effect of the rating on the log-odds of default."""
        return self.city_rating.values(_RATING_EFFECTS)


def draw_region(rng: np.random.Generator, size: int) -> Region:
    """Home regions of `size` clients."""
    rating = _RATING.draw(rng, size)
    regions = rating.values(_REGIONS)
    scores = ndtri((np.floor(regions * rng.random(size)) + 0.5) / regions)
    population = np.choose(rating.codes, [marginal.at(scores) for marginal in _POPULATION])
    standing = 0.9 * rating.values(_RATING_STANDING) + 0.68 * scores
    return Region(rating, draw_by(rng, rating, _CITY_RATING), to_decimals(population, 6), standing)
