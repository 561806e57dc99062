"""previous_application: what the clients asked this lender for before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .category import Shares, choose
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Columns, Floats, missing_where, to_decimals, whole
from .contract import Contracts, contract_days, draw_contracts
from .copula import Marginal, chance
from .offer import CASH, CONSUMER, REVOLVING, Offers, draw_offers
from .product import draw_products
from .terms import Terms, draw_terms

FIRST_PREVIOUS = 1_000_001

_WEEKDAYS = Shares.of(
    {
        "MONDAY": 0.151, "TUESDAY": 0.157, "WEDNESDAY": 0.152, "THURSDAY": 0.148, "FRIDAY": 0.153, "SATURDAY": 0.142,
        "SUNDAY": 0.097,
    }
)  # fmt: skip
_HOUR = Marginal((0, 5, 7, 8, 10, 12, 15, 17, 18, 20, 23))
_SUPERSEDED, _NOT_LAST_OF_DAY = 0.0042, 0.0033
_INSURED = {CASH: 0.45, CONSUMER: 0.3, REVOLVING: 0.05}
_INTEREST_STATED = 0.0042
_PRIMARY = Marginal((0.06, 0.06, 0.142, 0.15, 0.161, 0.189, 0.193, 0.195, 0.197, 0.696, 0.745))
_PRIVILEGED = Marginal((0.42, 0.42, 0.64, 0.68, 0.716, 0.835, 0.853, 0.86, 0.867, 0.867, 0.867))


@dataclass(frozen=True, slots=True)
class Previous:
    """Previous applications with what the tables below them need."""

    offers: Offers
    terms: Terms
    contracts: Contracts
    columns: Columns


def draw_previous(chunk: Chunk, clients: Clients, *, first_id: int) -> Previous:
    """The previous applications of `clients`, identified from `first_id` on."""
    rng = chunk.generator(Stream.PREVIOUS)
    offers = draw_offers(rng, clients, first_id=first_id)
    terms = draw_terms(rng, clients, offers)
    contracts = draw_contracts(rng, offers, terms)
    columns: Columns = {"SK_ID_PREV": offers.ids, "SK_ID_CURR": clients.ids[offers.client]}
    columns |= _process(rng, offers) | terms.columns() | draw_products(rng, offers, terms)
    columns |= contract_days(rng, contracts) | _conditions(rng, offers, contracts)
    return Previous(offers, terms, contracts, columns)


def _process(rng: np.random.Generator, offers: Offers) -> Columns:
    size = len(offers)
    superseded = chance(rng, _SUPERSEDED, size)
    return {
        "NAME_CONTRACT_TYPE": offers.contract,
        "NAME_CONTRACT_STATUS": offers.status,
        "DAYS_DECISION": whole(offers.day),
        "WEEKDAY_APPR_PROCESS_START": _WEEKDAYS.draw(rng, size),
        "HOUR_APPR_PROCESS_START": whole(_HOUR.at(rng.standard_normal(size))),
        "FLAG_LAST_APPL_PER_CONTRACT": choose({"N": superseded, "Y": ~superseded}),
        "NFLAG_LAST_APPL_IN_DAY": whole(~chance(rng, _NOT_LAST_OF_DAY, size)),
    }


def _conditions(rng: np.random.Generator, offers: Offers, contracts: Contracts) -> Columns:
    size = len(offers)
    insured = chance(rng, offers.contract.values(_INSURED), size).astype(np.float64)
    stated = offers.contract.equals(CONSUMER) & chance(rng, 2 * _INTEREST_STATED, size)
    return {
        "NFLAG_INSURED_ON_APPROVAL": missing_where(~contracts.dated, insured),
        "RATE_INTEREST_PRIMARY": _rate(rng, _PRIMARY, ~stated),
        "RATE_INTEREST_PRIVILEGED": _rate(rng, _PRIVILEGED, ~stated),
    }


def _rate(rng: np.random.Generator, marginal: Marginal, missing: Booleans) -> Floats:
    return missing_where(missing, to_decimals(marginal.at(rng.standard_normal(len(missing))), 4))
