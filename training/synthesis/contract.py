"""Approved previous applications as they ran: first and last due days, early repayment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import Booleans, Columns, Floats
from .copula import Marginal, chance
from .days import NEVER
from .offer import CASH, CONSUMER, REVOLVING, Offers
from .terms import Terms

DAYS_BETWEEN_INSTALMENTS = 30.0

_FIRST_DUE = Marginal((30, 30, 30, 30, 30, 31, 33, 40, 51, 60, 90))
_CARD_FIRST_USE = Marginal((0, 0, 0, 0, 1, 7, 41, 130, 228, 700, 2_000))
_EARLY = 0.45
_WITHOUT_DATES = 0.02
_CARD_UNUSED = 0.35


@dataclass(frozen=True, slots=True)
class Contracts:
    """How the previous applications ran, shape (n,) each; meaningful for approved ones that are `dated`.

    `due` instalments (0 to the agreed number) had fallen due before the application, all of them if the contract ran
    to its end, up to and including the last one if it was repaid `early`. `card` marks revolving contracts.
    """

    dated: Booleans
    card: Booleans
    first_due: Floats
    months: Floats
    due: Floats
    early: Booleans
    first_use: Floats

    @property
    def finished(self) -> Booleans:
        """Which loans are paid back or have had their last due day."""
        return (self.early | np.equal(self.due, self.months)) & ~self.card

    def __getitem__(self, rows: Booleans) -> Contracts:
        return Contracts(
            self.dated[rows], self.card[rows], self.first_due[rows], self.months[rows], self.due[rows],
            self.early[rows], self.first_use[rows],
        )  # fmt: skip


def draw_contracts(rng: np.random.Generator, offers: Offers, terms: Terms) -> Contracts:
    """How each previous application ran."""
    size, months = len(offers), np.nan_to_num(terms.months)
    first_due = offers.day + np.floor(_FIRST_DUE.at(rng.standard_normal(size)))
    past = np.clip(np.floor((-1 - first_due) / DAYS_BETWEEN_INSTALMENTS) + 1, 0, months)
    last_if_early = np.maximum(np.ceil(rng.uniform(0.3, 0.95, size) * months), 1)
    early = chance(rng, _EARLY, size) & (last_if_early <= past) & (last_if_early < months)
    first_use = offers.day + np.floor(_CARD_FIRST_USE.at(rng.standard_normal(size)))
    unused = chance(rng, _CARD_UNUSED, size) | (first_use >= 0)
    return Contracts(
        dated=offers.approved(CASH, CONSUMER, REVOLVING) & ~chance(rng, _WITHOUT_DATES, size),
        card=offers.contract.equals(REVOLVING),
        first_due=first_due,
        months=months,
        due=np.where(early, last_if_early, past),
        early=early,
        first_use=np.where(unused, NEVER, first_use),
    )


def contract_days(rng: np.random.Generator, contracts: Contracts) -> Columns:
    """DAYS_FIRST_DRAWING to DAYS_TERMINATION: NaN unless `dated`, 365243 for what has not happened."""
    last = contracts.first_due + DAYS_BETWEEN_INSTALMENTS * (contracts.due - 1)
    planned = contracts.first_due + DAYS_BETWEEN_INSTALMENTS * (contracts.months - 1)
    ended = last + rng.integers(2, 11, len(last))
    card_due = np.where(contracts.first_use + 50 < 0, contracts.first_use + 50, NEVER)
    dates = {
        "DAYS_FIRST_DRAWING": np.where(contracts.card, contracts.first_use, NEVER),
        "DAYS_FIRST_DUE": np.where(contracts.card, card_due, _once(contracts.due > 0, contracts.first_due)),
        "DAYS_LAST_DUE_1ST_VERSION": np.where(contracts.card, NEVER, planned),
        "DAYS_LAST_DUE": _once(contracts.finished & (contracts.due > 0), last),
        "DAYS_TERMINATION": _once(contracts.finished & (contracts.due > 0) & (ended < 0), ended),
    }
    return {name: np.where(contracts.dated, days, np.nan) for name, days in dates.items()}


def _once(happened: Booleans, day: Floats) -> Floats:
    return np.where(happened, day, NEVER)
