"""bureau: what other lenders reported to the credit bureau.

Debt (`leverage`) shows as credits less repaid, late payment (`lateness`) as overdue amounts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .category import Shares, choose
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Columns, Floats, Integers, missing_where, to_multiple, whole
from .copula import Marginal, blend, chance
from .credit import CARD, UNIT, Credits, draw_credits
from .days import DAYS_PER_MONTH

FIRST_CREDIT = 5_000_001

_CURRENCIES = Shares.of({"currency 1": 0.9992, "currency 2": 0.0007, "currency 3": 0.0001})
_UPDATE_AFTER_END = Marginal((0, 0, 0, 0, 0, 4, 93, 645, 1_123, 1_800, 2_600))
_UPDATE_OF_ACTIVE = Marginal((0, 2, 4, 7, 13, 24, 48, 345, 668, 1_640, 2_600))
_OVERDUE_AMOUNT = Marginal((0.5, 9, 140, 617, 3_375, 7_425, 15_000, 28_150, 44_100, 105_500, 900_000))
_OVERDUE_DAYS = Marginal((1, 4, 7, 9, 14, 30, 120, 1_590, 2_210, 2_540, 2_571))
_OVERDUE_NOW = Marginal((4.5, 4.5, 4.5, 13.5, 70, 275, 800, 16_700, 20_000, 70_000, 300_000))
_CARD_USE = Marginal((0, 0, 0, 0, 0, 0.2, 0.9, 1, 1.02, 1.3, 2))


@dataclass(frozen=True, slots=True)
class Bureau:
    """Bureau credits; shape (n,) each.

    `client` is the position of the owner in the chunk; `start` and `end` are days, `end` NaN while the credit runs.
    """

    ids: Integers
    client: Integers
    start: Floats
    end: Floats
    columns: Columns


def draw_bureau(chunk: Chunk, clients: Clients, *, first_id: int) -> Bureau:
    """The bureau credits of `clients`, identified from `first_id` on."""
    rng = chunk.generator(Stream.BUREAU)
    facts = draw_credits(rng, clients)
    ids = np.arange(first_id, first_id + len(facts.client), dtype=np.int64)
    columns: Columns = {"SK_ID_CURR": clients.ids[facts.client], "SK_ID_BUREAU": ids}
    columns |= _identity(rng, facts) | _dates(rng, facts) | _amounts(rng, facts)
    return Bureau(ids, facts.client, facts.start, facts.end, columns)


def _identity(rng: np.random.Generator, facts: Credits) -> Columns:
    size = len(facts.client)
    return {
        "CREDIT_ACTIVE": choose({"Closed": facts.closed, "Active": facts.active, "Sold": facts.sold}),
        "CREDIT_CURRENCY": _CURRENCIES.draw(rng, size),
        "CREDIT_TYPE": facts.kind,
    }


def _dates(rng: np.random.Generator, facts: Credits) -> Columns:
    size = len(facts.client)
    open_ended = chance(rng, facts.open_ended, size)
    after_end = np.nan_to_num(facts.end) + _UPDATE_AFTER_END.at(rng.standard_normal(size))
    while_active = -np.minimum(_UPDATE_OF_ACTIVE.at(rng.standard_normal(size)), -facts.start)
    updated = np.where(facts.closed, np.minimum(after_end, while_active), while_active)
    overdue = _overdue_now(rng, facts)
    owed = to_multiple(_OVERDUE_NOW.at(rng.standard_normal(size)), UNIT)
    return {
        "DAYS_CREDIT": whole(facts.start),
        "CREDIT_DAY_OVERDUE": whole(np.where(overdue, _OVERDUE_DAYS.at(rng.standard_normal(size)), 0.0)),
        "DAYS_CREDIT_ENDDATE": missing_where(open_ended, facts.planned_end),
        "DAYS_ENDDATE_FACT": facts.end,
        "CNT_CREDIT_PROLONG": chance(rng, 0.004, size) * (1 + rng.poisson(0.2, size)),
        "DAYS_CREDIT_UPDATE": whole(updated),
        "AMT_CREDIT_SUM_OVERDUE": np.where(overdue, owed, 0.0),
    }


def _overdue_now(rng: np.random.Generator, facts: Credits) -> Booleans:
    return facts.active & chance(rng, 0.006 * np.exp(0.8 * facts.lateness), len(facts.client))


def _amounts(rng: np.random.Generator, facts: Credits) -> Columns:
    size = len(facts.client)
    card = facts.kind.equals(CARD)
    debt = np.where(facts.closed, 0.0, to_multiple(facts.amount * _debt_share(rng, facts, card), UNIT))
    limited = card & facts.active & chance(rng, 0.35, size)
    limit = np.where(limited, np.maximum(facts.amount - debt, 0.0), 0.0)
    ever_overdue = chance(rng, expit(-1.5 + 0.6 * facts.lateness + 0.15 * facts.leverage), size)
    worst = np.where(ever_overdue, to_multiple(_OVERDUE_AMOUNT.at(rng.standard_normal(size)), 0.5), 0.0)
    return {
        "AMT_CREDIT_MAX_OVERDUE": missing_where(chance(rng, 0.672, size), worst),
        "AMT_CREDIT_SUM": facts.amount,
        "AMT_CREDIT_SUM_DEBT": missing_where(chance(rng, np.where(facts.closed, 0.165, 0.106), size), debt),
        "AMT_CREDIT_SUM_LIMIT": missing_where(chance(rng, np.where(card, 0.2, 0.42), size), limit),
        "AMT_ANNUITY": _instalment(rng, facts),
    }


def _debt_share(rng: np.random.Generator, facts: Credits, card: Booleans) -> Floats:
    """Debt over credit of a running credit, shape (n,): what is left of the term, or the use of the card."""
    length = np.maximum(facts.planned_end - facts.start, 1.0)
    left = np.clip(facts.planned_end / length, 0.02, 1.0) ** np.exp(-0.35 * facts.leverage)
    noisy = left * np.exp(0.12 * rng.standard_normal(len(left)))
    return np.where(card, _CARD_USE.at(blend(rng, (0.5, facts.leverage))), noisy)


def _instalment(rng: np.random.Generator, facts: Credits) -> Floats:
    """Mostly missing or 0, otherwise the amount spread over the term with interest."""
    size = len(facts.client)
    months = np.clip((facts.planned_end - facts.start) / DAYS_PER_MONTH, 3.0, 120.0)
    instalment = to_multiple(facts.amount * 1.25 / months, UNIT)
    zero = chance(rng, 0.56, size)
    return missing_where(chance(rng, 0.57, size), np.where(zero, 0.0, instalment))
