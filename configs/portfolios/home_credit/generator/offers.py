"""Previous applications of each client: contract, answer, day, terms, and how each contract ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs.portfolios.home_credit.generator.application import Clients
from configs.portfolios.home_credit.generator.draws import (
    NEVER,
    Booleans,
    Category,
    Columns,
    CountDistribution,
    Floats,
    Integers,
    LevelShares,
    Marginal,
    blend,
    chance,
    draw_by,
    missing_where,
    to_decimals,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.loan import annuity

CASH, CONSUMER, REVOLVING = "Cash loans", "Consumer loans", "Revolving loans"
APPROVED, CANCELED, REFUSED, UNUSED = "Approved", "Canceled", "Refused", "Unused offer"

_WITHOUT_HISTORY = 0.054
_BEYOND_FIRST, _DISPERSION = 4.7, 1.9


class _OfferKind(NamedTuple):
    """Contract, answer, their share, the share with an agreed amount, days before the application."""

    contract: str
    status: str
    share: float
    priced: float
    days: Marginal


_OFTEN = Marginal((2, 65, 186, 272, 473, 774, 1_160, 1_850, 2_386, 2_750, 2_920))
_CALLED_OFF = Marginal((2, 5, 21, 51, 148, 258, 375, 477, 526, 578, 1_000))
_TURNED_DOWN = Marginal((2, 11, 51, 133, 224, 397, 667, 1_321, 1_926, 2_615, 2_910))
_IN_SHOPS = Marginal((2, 39, 160, 263, 524, 1_060, 1_925, 2_524, 2_712, 2_875, 2_922))
_CARDS = Marginal((3, 46, 190, 280, 520, 1_050, 1_700, 2_350, 2_600, 2_870, 2_922))
_KINDS = (
    _OfferKind(CASH, APPROVED, 0.19, 1.0, _OFTEN),
    _OfferKind(CASH, CANCELED, 0.162, 0.035, _CALLED_OFF),
    _OfferKind(CASH, REFUSED, 0.089, 0.83, _TURNED_DOWN),
    _OfferKind(CONSUMER, APPROVED, 0.365, 1.0, _IN_SHOPS),
    _OfferKind(CONSUMER, CANCELED, 0.001, 0.16, _IN_SHOPS),
    _OfferKind(CONSUMER, REFUSED, 0.039, 0.83, _IN_SHOPS),
    _OfferKind(CONSUMER, UNUSED, 0.016, 0.02, _IN_SHOPS),
    _OfferKind(REVOLVING, APPROVED, 0.063, 1.0, _CARDS),
    _OfferKind(REVOLVING, CANCELED, 0.026, 0.01, _CALLED_OFF),
    _OfferKind(REVOLVING, REFUSED, 0.025, 0.95, _TURNED_DOWN),
)
# A drawn code is the position of its entry in `_KINDS`; the levels only name the entries.
_SHARES = LevelShares(tuple(f"{kind.contract}, {kind.status}" for kind in _KINDS), tuple(kind.share for kind in _KINDS))
_RISK_OF_STATUS = {APPROVED: 0.0, CANCELED: 0.15, REFUSED: 0.5, UNUSED: 0.1}


@dataclass(frozen=True, slots=True)
class Offers:
    """Previous applications, shape (n,) each. `client` is the position of the client in the chunk.

    `day` counts from the present application, so it is negative; `priced` says whether an amount was agreed on;
    `first` marks each client's oldest one.
    """

    ids: Integers
    client: Integers
    contract: Category
    status: Category
    day: Floats
    priced: Booleans
    first: Booleans

    def __len__(self) -> int:
        return len(self.ids)

    def approved(self, *contracts: str) -> Booleans:
        """Which rows are approved applications for one of `contracts`."""
        return self.contract.among(contracts) & self.status.equals(APPROVED)


def draw_offers(rng: np.random.Generator, clients: Clients, *, first_id: int) -> Offers:
    """Draw the previous applications of `clients`; their identifiers start at `first_id`."""
    client = _draw_owners(rng, clients)
    kind = _draw_kind(rng, clients, client)
    day = -np.maximum(np.floor(_days(kind, blend(rng, (-0.12, clients.latent.stability[client])))), 2.0)
    return Offers(
        ids=np.arange(first_id, first_id + len(client), dtype=np.int64),
        client=client,
        contract=_label(kind, tuple(entry.contract for entry in _KINDS)),
        status=_label(kind, tuple(entry.status for entry in _KINDS)),
        day=day,
        priced=chance(rng, np.array([entry.priced for entry in _KINDS])[kind], len(client)),
        first=_oldest(client, day, len(clients)),
    )


def _draw_owners(rng: np.random.Generator, clients: Clients) -> Integers:
    """Position of the client of each application; some clients are new."""
    beyond = rng.negative_binomial(_DISPERSION, _DISPERSION / (_DISPERSION + _BEYOND_FIRST), len(clients))
    new = chance(rng, _WITHOUT_HISTORY, len(clients))
    return np.repeat(np.arange(len(clients)), np.where(new, 0, 1 + beyond))


def _draw_kind(rng: np.random.Generator, clients: Clients, client: Integers) -> Integers:
    """Position in `_KINDS`, shape (n,); late payers and unstable clients are refused more often."""
    risk = (clients.latent.lateness + 0.6 * clients.latent.stability)[client]
    strength = np.array([_RISK_OF_STATUS[kind.status] for kind in _KINDS])
    # A multinomial logit: an approval has the effect 0, so risk moves the odds of the other answers against it.
    return _SHARES.draw_tilted(rng, np.exp(risk[:, None] * strength)).codes.astype(np.int64)


def _days(kind: Integers, scores: Floats) -> Floats:
    days = np.empty(len(kind))
    for code, entry in enumerate(_KINDS):
        days[kind == code] = entry.days.at(scores[kind == code])
    return days


def _label(kind: Integers, labels: tuple[str, ...]) -> Category:
    levels = tuple(dict.fromkeys(labels))
    return Category(levels, np.array([levels.index(label) for label in labels], dtype=np.int16)[kind])


def _oldest(client: Integers, day: Floats, clients: int) -> Booleans:
    earliest = np.full(clients, np.inf)
    # Plain indexed assignment would keep the last row of each client; `minimum.at` takes every row into account.
    np.minimum.at(earliest, client, day)
    oldest: Booleans = day == earliest[client]
    return oldest


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
    CASH: LevelShares(_YIELD_LEVELS, (0.26, 0.05, 0.29, 0.4)),
    CONSUMER: LevelShares(_YIELD_LEVELS, (0.33, 0.1, 0.26, 0.31)),
    REVOLVING: LevelShares(_YIELD_LEVELS, (0.0, 0.0, 1.0, 0.0)),
}
_MONTHLY_RATES = {"low_action": 0.009, "low_normal": 0.018, "middle": 0.03, "high": 0.045}


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of the previous applications, shape (n,) each; NaN or missing where none were agreed on.

    `credit` is what the client received, or the limit of a card; `months` the number of instalments (0 for a card).
    """

    requested: Floats
    credit: Floats
    down_payment: Floats
    months: Floats
    instalment: Floats
    monthly_rate: Floats
    yield_group: Category

    def __getitem__(self, rows: Booleans) -> Terms:
        return Terms(
            self.requested[rows], self.credit[rows], self.down_payment[rows], self.months[rows], self.instalment[rows],
            self.monthly_rate[rows], self.yield_group[rows],
        )  # fmt: skip

    def columns(self) -> Columns:
        """The columns of previous_application that state amounts."""
        priceless = np.isnan(self.requested) | (self.requested == 0)
        return {
            "AMT_ANNUITY": self.instalment,
            # These two columns hold 0 where no amount was agreed on; the others are missing there.
            "AMT_APPLICATION": np.nan_to_num(self.requested),
            "AMT_CREDIT": np.nan_to_num(self.credit),
            "AMT_DOWN_PAYMENT": self.down_payment,
            "AMT_GOODS_PRICE": missing_where(priceless, self.requested),
            "RATE_DOWN_PAYMENT": to_decimals(self.down_payment / self.requested, 4),
            "CNT_PAYMENT": self.months,
        }


def draw_terms(rng: np.random.Generator, clients: Clients, offers: Offers) -> Terms:
    """Draw the terms of each previous application."""
    size = len(offers)
    cash, consumer, card = (offers.contract.equals(contract) for contract in (CASH, CONSUMER, REVOLVING))
    demand = blend(rng, (0.35, clients.income_score[offers.client]))
    requested = _requested_amounts(offers, demand)
    down = np.where(consumer, to_multiple(requested * _DOWN_PAYMENT.at(rng.standard_normal(size)), 4.5), 0.0)
    loading = np.where(cash, _INSURANCE.at(rng.standard_normal(size)), _SHOP_INSURANCE.at(rng.standard_normal(size)))
    credit = np.where(card, requested, to_multiple((requested - down) * loading, 4.5))
    yields = draw_by(rng, offers.contract, _YIELDS).only(offers.priced & ~card)
    rate = yields.values(_MONTHLY_RATES, otherwise=_MONTHLY_RATES["low_normal"])
    months = _draw_months(rng, offers, demand)
    # A card has 0 months, for which the formula divides by zero; its result is not used for cards.
    equal_instalment = annuity(credit, rate, np.maximum(months, 1.0))
    instalment = np.where(card, credit * CARD_INSTALMENT, to_multiple(equal_instalment, 0.5))
    named = offers.priced | consumer
    return Terms(
        requested=np.where(named & ~(card & chance(rng, 0.4, size)), requested, np.where(named, 0.0, np.nan)),
        credit=missing_where(~named, credit),
        down_payment=missing_where(~(consumer & named), down),
        months=missing_where(~offers.priced, months),
        instalment=missing_where(~offers.priced, instalment),
        monthly_rate=rate,
        yield_group=yields,
    )


def _requested_amounts(offers: Offers, demand: Floats) -> Floats:
    by_contract = [_ASKED[contract].at(demand) for contract in offers.contract.levels]
    steps = offers.contract.values(_STEPS)
    return np.maximum(to_multiple(np.choose(offers.contract.codes, by_contract), steps), steps)


def _draw_months(rng: np.random.Generator, offers: Offers, demand: Floats) -> Floats:
    """Larger loans run longer; applications that were not approved asked for longer terms still."""
    scores = blend(rng, (_LARGER_IS_LONGER, demand)) + _DECLINED_IS_LONGER * ~offers.status.equals(APPROVED)
    return np.choose(offers.contract.codes, [_months(contract, scores) for contract in offers.contract.levels])


def _months(contract: str, scores: Floats) -> Floats:
    lengths = _MONTHS[contract]
    return np.array(tuple(lengths), dtype=np.float64)[whole(CountDistribution(tuple(lengths.values())).at(scores))]


DAYS_BETWEEN_INSTALMENTS = 30.0

_FIRST_DUE = Marginal((30, 30, 30, 30, 30, 31, 33, 40, 51, 60, 90))
_CARD_FIRST_USE = Marginal((0, 0, 0, 0, 1, 7, 41, 130, 228, 700, 2_000))
_EARLY = 0.45
_WITHOUT_DATES = 0.02
_CARD_UNUSED = 0.35


@dataclass(frozen=True, slots=True)
class Contracts:
    """The course of each contract, shape (n,) each; meaningful for approved applications that are `dated`.

    `due` counts the instalments that fell due before the application, from 0 to the agreed number; where a loan was
    repaid `early`, the count ends with its last payment. `card` marks revolving contracts.
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
        """Which loans were repaid early or are past their last due day."""
        return (self.early | np.equal(self.due, self.months)) & ~self.card

    def __getitem__(self, rows: Booleans) -> Contracts:
        return Contracts(
            self.dated[rows], self.card[rows], self.first_due[rows], self.months[rows], self.due[rows],
            self.early[rows], self.first_use[rows],
        )  # fmt: skip


def draw_contracts(rng: np.random.Generator, offers: Offers, terms: Terms) -> Contracts:
    """Draw how each contract ran up to the day of the present application."""
    size, months = len(offers), np.nan_to_num(terms.months)
    first_due = offers.day + np.floor(_FIRST_DUE.at(rng.standard_normal(size)))
    # Day -1 is the last before the application: what falls due later is not known yet and must not be told.
    past = np.clip(np.floor((-1 - first_due) / DAYS_BETWEEN_INSTALMENTS) + 1, 0, months)
    last_if_early = np.maximum(np.ceil(rng.uniform(0.3, 0.95, size) * months), 1)
    early = chance(rng, _EARLY, size) & (last_if_early <= past) & (last_if_early < months)
    first_use = offers.day + np.floor(_CARD_FIRST_USE.at(rng.standard_normal(size)))
    # A first use in the future is not known either, so such a card counts as unused.
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
    """DAYS_FIRST_DRAWING to DAYS_TERMINATION: NaN unless `dated`, 365243 for an event that has not happened."""
    last = contracts.first_due + DAYS_BETWEEN_INSTALMENTS * (contracts.due - 1)
    planned = contracts.first_due + DAYS_BETWEEN_INSTALMENTS * (contracts.months - 1)
    ended = last + rng.integers(2, 11, len(last))
    card_due = np.where(contracts.first_use + 50 < 0, contracts.first_use + 50, NEVER)
    dates = {
        "DAYS_FIRST_DRAWING": np.where(contracts.card, contracts.first_use, NEVER),
        "DAYS_FIRST_DUE": np.where(contracts.card, card_due, _day_or_never(contracts.due > 0, contracts.first_due)),
        "DAYS_LAST_DUE_1ST_VERSION": np.where(contracts.card, NEVER, planned),
        "DAYS_LAST_DUE": _day_or_never(contracts.finished & (contracts.due > 0), last),
        "DAYS_TERMINATION": _day_or_never(contracts.finished & (contracts.due > 0) & (ended < 0), ended),
    }
    return {name: np.where(contracts.dated, days, np.nan) for name, days in dates.items()}


def _day_or_never(happened: Booleans, day: Floats) -> Floats:
    return np.where(happened, day, NEVER)
