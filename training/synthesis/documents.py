"""Which documents the client handed in."""

from __future__ import annotations

import numpy as np

from .category import Category, Shares, draw_by
from .columns import Booleans, Columns, whole
from .copula import chance
from .drift import Population
from .employment import Employment
from .loan import Loan

DOCUMENTS = range(2, 22)
_MAIN = {
    "revolving": Shares.of({"none": 0.93, "3": 0.035, "5": 0.025, "6": 0.002, "8": 0.008}),
    "pensioner": Shares.of({"none": 0.005, "3": 0.5, "5": 0.011, "6": 0.474, "8": 0.01}),
    "other": Shares.of({"none": 0.005, "3": 0.862, "5": 0.015, "6": 0.01, "8": 0.108}),
}


def draw_documents(rng: np.random.Generator, loan: Loan, employment: Employment, population: Population) -> Columns:
    """FLAG_DOCUMENT_2 .. 21: one main document by contract and employment, and rarely one more."""
    main = draw_by(rng, _group(loan.revolving, employment.employed), _MAIN)
    return {f"FLAG_DOCUMENT_{number}": whole(_flag(rng, number, main, population)) for number in DOCUMENTS}


def _group(revolving: Booleans, employed: Booleans) -> Category:
    return Category(tuple(_MAIN), np.where(revolving, 0, np.where(employed, 2, 1)).astype(np.int16))


def _flag(rng: np.random.Generator, number: int, main: Category, population: Population) -> Booleans:
    if str(number) in main.levels:
        return main.equals(str(number))
    return chance(rng, population.rare_documents.get(number, 0.0), len(main))
