"""The amounts of previous applications: what was asked for, credited, paid down, and the instalments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .annuity import annuity
from .category import Category, Shares, draw_by
from .client import Clients
from .columns import Booleans, Columns, Floats, missing_where, to_decimals, to_multiple, whole
from .copula import Counts, Marginal, blend, chance
from .offer import APPROVED, CASH, CONSUMER, REVOLVING, Offers

CARD_INSTALMENT = 0.05

_ASKED = {
    CASH: Marginal((22_500, 45_000, 54_000, 72_000, 135_000, 229_500, 454_500, 900_000, 1.13e6, 1.66e6, 3.15e6)),
    CONSUMER: Marginal((5_500, 15_750, 20_700, 25_600, 39_500, 70_500, 117_500, 178_000, 247_500, 470_000, 2e6)),
    REVOLVING: Marginal((22_500, 45_000, 45_000, 45_000, 90_000, 157_500, 225_000, 405_000, 450_000, 765_000, 1.35e6)),
}
_STEPS = {CASH: 4_500.0, CONSUMER: 4.5, REVOLVING: 22_500.0}
_INSURANCE = Marginal((1, 1, 1, 1, 1.058, 1.102, 1.172, 1.24, 1.309, 1.4, 1.5))
_SHOP_INSURANCE = Marginal((1, 1, 1, 1, 1, 1.02, 1.07, 1.12, 1.158, 1.2, 1.3))
_DOWN_PAYMENT = Marginal((0, 0, 0.06, 0.109, 0.21, 0.292, 0.52, 0.84), (0.0, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 1.0))
_MONTHS: dict[str, dict[int, float]] = {
    CASH: {6: 8, 12: 27, 18: 14, 24: 18, 30: 4, 36: 13, 42: 2, 48: 8, 54: 0.5, 60: 5.5},
    CONSUMER: {4: 4, 6: 25, 8: 4.5, 10: 21, 12: 32, 14: 1.2, 16: 0.8, 18: 4, 24: 8, 36: 0.8},
    REVOLVING: {0: 1},
}
_LARGER_IS_LONGER, _DECLINED_IS_LONGER = 0.6, 0.8
_YIELD_LEVELS = ("high", "low_action", "low_normal", "middle")
_YIELDS = {
    CASH: Shares(_YIELD_LEVELS, (0.26, 0.05, 0.29, 0.4)),
    CONSUMER: Shares(_YIELD_LEVELS, (0.33, 0.1, 0.26, 0.31)),
    REVOLVING: Shares(_YIELD_LEVELS, (0.0, 0.0, 1.0, 0.0)),
}
_MONTHLY_RATES = {"low_action": 0.009, "low_normal": 0.018, "middle": 0.03, "high": 0.045}


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of the previous applications, shape (n,) each; NaN or missing where none were agreed on.

    `credit` is what the client received, or the limit of a card; `months` the number of instalments (0 for a card).
    """

    asked: Floats
    credit: Floats
    down_payment: Floats
    months: Floats
    instalment: Floats
    monthly_rate: Floats
    yield_group: Category

    def __getitem__(self, rows: Booleans) -> Terms:
        return Terms(
            self.asked[rows], self.credit[rows], self.down_payment[rows], self.months[rows], self.instalment[rows],
            self.monthly_rate[rows], self.yield_group[rows],
        )  # fmt: skip

    def columns(self) -> Columns:
        """The columns of previous_application that state amounts."""
        priceless = np.isnan(self.asked) | (self.asked == 0)
        return {
            "AMT_ANNUITY": self.instalment,
            "AMT_APPLICATION": np.nan_to_num(self.asked),
            "AMT_CREDIT": np.nan_to_num(self.credit),
            "AMT_DOWN_PAYMENT": self.down_payment,
            "AMT_GOODS_PRICE": missing_where(priceless, self.asked),
            "RATE_DOWN_PAYMENT": to_decimals(self.down_payment / self.asked, 4),
            "CNT_PAYMENT": self.months,
        }


def draw_terms(rng: np.random.Generator, clients: Clients, offers: Offers) -> Terms:
    """Terms of each previous application."""
    size = len(offers)
    cash, consumer, card = (offers.contract.equals(contract) for contract in (CASH, CONSUMER, REVOLVING))
    demand = blend(rng, (0.35, clients.income_score[offers.client]))
    asked = _asked(offers, demand)
    down = np.where(consumer, to_multiple(asked * _DOWN_PAYMENT.at(rng.standard_normal(size)), 4.5), 0.0)
    loading = np.where(cash, _INSURANCE.at(rng.standard_normal(size)), _SHOP_INSURANCE.at(rng.standard_normal(size)))
    credit = np.where(card, asked, to_multiple((asked - down) * loading, 4.5))
    yields = draw_by(rng, offers.contract, _YIELDS).only(offers.priced & ~card)
    rate = yields.values(_MONTHLY_RATES, otherwise=_MONTHLY_RATES["low_normal"])
    months = _draw_months(rng, offers, demand)
    level = annuity(credit, rate, np.maximum(months, 1.0))
    instalment = np.where(card, credit * CARD_INSTALMENT, to_multiple(level, 0.5))
    named = offers.priced | consumer
    return Terms(
        asked=np.where(named & ~(card & chance(rng, 0.4, size)), asked, np.where(named, 0.0, np.nan)),
        credit=missing_where(~named, credit),
        down_payment=missing_where(~(consumer & named), down),
        months=missing_where(~offers.priced, months),
        instalment=missing_where(~offers.priced, instalment),
        monthly_rate=rate,
        yield_group=yields,
    )


def _asked(offers: Offers, demand: Floats) -> Floats:
    by_contract = [_ASKED[contract].at(demand) for contract in offers.contract.levels]
    steps = offers.contract.values(_STEPS)
    return np.maximum(to_multiple(np.choose(offers.contract.codes, by_contract), steps), steps)


def _draw_months(rng: np.random.Generator, offers: Offers, demand: Floats) -> Floats:
    """Larger loans run longer, and those that were not granted were to run longer still."""
    scores = blend(rng, (_LARGER_IS_LONGER, demand)) + _DECLINED_IS_LONGER * ~offers.status.equals(APPROVED)
    return np.choose(offers.contract.codes, [_months(contract, scores) for contract in offers.contract.levels])


def _months(contract: str, scores: Floats) -> Floats:
    lengths = _MONTHS[contract]
    return np.array(tuple(lengths), dtype=np.float64)[whole(Counts(tuple(lengths.values())).at(scores))]
