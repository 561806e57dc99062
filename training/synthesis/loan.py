"""What the client asks for: contract, price of the goods, credit and instalment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .annuity import annuity
from .category import Category, Shares, pick
from .columns import Booleans, Columns, Floats, to_multiple
from .copula import Marginal, blend, chance
from .drift import Population
from .employment import Employment
from .person import Person

_CONTRACT = ("Cash loans", "Revolving loans")
_UNPRICED_REVOLVING = 0.009
_PRICE_STEPS = Shares.of({"225000": 0.36, "45000": 0.24, "22500": 0.1, "4500": 0.3})
_INSURANCE = {
    1.0528: 3.0, 1.066: 3.5, 1.0792: 3.6, 1.0964: 2.0, 1.1056: 5.0, 1.1188: 9.5, 1.132: 7.3, 1.1452: 5.0, 1.1584: 13.0,
    1.1716: 2.0, 1.198: 13.4, 1.2112: 6.8, 1.2376: 4.0, 1.264: 4.4, 1.2852: 2.0, 1.3168: 5.3, 1.396: 5.1, 1.4224: 2.9,
    1.4752: 2.0,
}  # fmt: skip
_MONTHLY_RATE = Marginal((0.007, 0.009, 0.011, 0.013, 0.016, 0.02, 0.024, 0.027, 0.029, 0.033, 0.038))
_LIMITS = Shares.of(
    {
        "135000": 7.0, "157500": 3.0, "180000": 23.0, "202500": 6.6, "225000": 5.0, "247500": 4.6, "270000": 19.5,
        "315000": 2.4, "337500": 4.1, "405000": 3.7, "450000": 3.8, "540000": 2.8, "585000": 1.9, "675000": 2.2,
        "765000": 1.5, "900000": 1.8,
    }
)  # fmt: skip
_REVOLVING_INSTALMENT = 0.05
_UNIT = 4.5


@dataclass(frozen=True, slots=True)
class Loan:
    """Amounts in currency, shape (n,) each; the goods of some revolving loans have no price (NaN)."""

    revolving: Booleans
    goods: Floats
    credit: Floats
    instalment: Floats

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "NAME_CONTRACT_TYPE": Category(_CONTRACT, self.revolving.astype(np.int16)),
            "AMT_CREDIT": self.credit,
            "AMT_ANNUITY": self.instalment,
            "AMT_GOODS_PRICE": self.goods,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: insurance bundled in, terms of middling length, middling credit."""
        term = self.credit / self.instalment
        loading = np.clip(np.nan_to_num(self.credit / self.goods, nan=1.0) - 1, 0, 0.5)
        cash = 2.2 * loading + 0.7 * np.exp(-(((term - 18) / 5) ** 2)) - 0.2 * np.log(self.credit / 500_000)
        return np.where(self.revolving, -0.1, cash)


def draw_loan(rng: np.random.Generator, person: Person, employment: Employment, population: Population) -> Loan:
    """What each client asks for; richer and middle-aged clients ask for more."""
    size = len(person.age)
    revolving = chance(rng, population.revolving, size)
    demand = blend(rng, (0.42, employment.income_score), (0.1, person.age_score))
    goods = _draw_price(rng, demand, population)
    credit = to_multiple(goods * _draw_loading(rng, size, population.uninsured), _UNIT)
    instalment = _draw_instalment(rng, credit, demand, population)
    limit = _LIMITS.draw(rng, size).values({limit: float(limit) for limit in _LIMITS.levels})
    unpriced = revolving & chance(rng, _UNPRICED_REVOLVING, size)
    return Loan(
        revolving=revolving,
        goods=np.where(unpriced, np.nan, np.where(revolving, limit, goods)),
        credit=np.where(revolving, limit, credit),
        instalment=np.where(revolving, limit * _REVOLVING_INSTALMENT, instalment),
    )


def _draw_price(rng: np.random.Generator, demand: Floats, population: Population) -> Floats:
    """Prices, most of them round; small prices are never rounded to the coarse steps."""
    price = population.price.at(demand)
    steps = _PRICE_STEPS.draw(rng, len(demand)).values({step: float(step) for step in _PRICE_STEPS.levels})
    return np.maximum(to_multiple(price, np.where(steps > price, 4_500.0, steps)), 40_500.0)


def _draw_loading(rng: np.random.Generator, size: int, uninsured: float) -> Floats:
    """Credit over price: 1 without insurance."""
    shares = np.broadcast_to(tuple(_INSURANCE.values()), (size, len(_INSURANCE)))
    insured = np.array(tuple(_INSURANCE))[pick(rng, shares)]
    return np.where(chance(rng, uninsured, size), 1.0, insured)


def _draw_instalment(rng: np.random.Generator, credit: Floats, demand: Floats, population: Population) -> Floats:
    """Larger loans run longer and cost less per month."""
    lengths = np.cumsum(tuple(population.terms.values()))
    term = Marginal(tuple(population.terms), tuple(lengths / lengths[-1]))
    months = np.array(tuple(population.terms), dtype=np.float64)
    drawn = months[np.searchsorted(months, term.at(blend(rng, (0.68, demand))) - 1e-9)]
    rate = _MONTHLY_RATE.at(blend(rng, (-0.4, demand)))
    return to_multiple(annuity(credit, rate, drawn), _UNIT)
