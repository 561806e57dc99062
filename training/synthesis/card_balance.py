"""The columns of credit_card_balance."""

from __future__ import annotations

import numpy as np

from .card import Cards
from .category import choose
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Columns, Floats, Integers, missing_where, to_decimals, whole
from .copula import chance

_NO_MINIMUM_KNOWN = 0.07
_COMPLETED, _SIGNED_FIRST = 0.15, 0.1


def draw_card_balance(chunk: Chunk, clients: Clients, cards: Cards) -> Columns:
    """Months of the cards; the drawings by kind are missing for a card that was never used."""
    rng = chunk.generator(Stream.CARD_BALANCE)
    owner = cards.rows.owner
    columns: Columns = {
        "SK_ID_PREV": cards.ids[owner],
        "SK_ID_CURR": clients.ids[cards.client[owner]],
        "MONTHS_BALANCE": cards.rows.step - cards.rows.lengths[owner],
        "AMT_CREDIT_LIMIT_ACTUAL": whole(cards.limit),
    }
    return columns | _amounts(rng, cards) | _counts(rng, cards) | _state(rng, cards)


def _amounts(rng: np.random.Generator, cards: Cards) -> Columns:
    unused = ~cards.used[cards.rows.owner]
    principal = np.maximum(cards.balance - cards.interest, 0.0)
    return {
        "AMT_BALANCE": cards.balance,
        "AMT_DRAWINGS_ATM_CURRENT": missing_where(unused, cards.cash),
        "AMT_DRAWINGS_CURRENT": cards.drawn,
        "AMT_DRAWINGS_OTHER_CURRENT": missing_where(unused, np.zeros(len(unused))),
        "AMT_DRAWINGS_POS_CURRENT": missing_where(unused, cards.drawn - cards.cash),
        "AMT_INST_MIN_REGULARITY": missing_where(chance(rng, _NO_MINIMUM_KNOWN, len(unused)), cards.minimum),
        "AMT_PAYMENT_CURRENT": missing_where(unused, cards.paid),
        "AMT_PAYMENT_TOTAL_CURRENT": cards.paid,
        "AMT_RECEIVABLE_PRINCIPAL": to_decimals(principal, 2),
        "AMT_RECIVABLE": cards.balance,
        "AMT_TOTAL_RECEIVABLE": cards.balance,
    }


def _counts(rng: np.random.Generator, cards: Cards) -> Columns:
    unused = ~cards.used[cards.rows.owner]
    machine = _times(rng, cards.cash)
    shops = _times(rng, cards.drawn - cards.cash)
    return {
        "CNT_DRAWINGS_ATM_CURRENT": missing_where(unused, machine),
        "CNT_DRAWINGS_CURRENT": whole(machine + shops),
        "CNT_DRAWINGS_OTHER_CURRENT": missing_where(unused, np.zeros(len(unused))),
        "CNT_DRAWINGS_POS_CURRENT": missing_where(unused, shops),
        "CNT_INSTALMENT_MATURE_CUM": missing_where(chance(rng, _NO_MINIMUM_KNOWN, len(unused)), _matured(cards)),
    }


def _times(rng: np.random.Generator, amount: Floats) -> Floats:
    return np.where(amount > 0, 1 + rng.poisson(1.5, len(amount)), 0).astype(np.float64)


def _matured(cards: Cards) -> Floats:
    """Payments asked for so far, over the months of each card."""
    asked = np.cumsum(cards.minimum > 0)
    first = np.cumsum(cards.rows.lengths) - cards.rows.lengths
    before = np.concatenate(([0], asked))[first]
    so_far: Integers = asked - before[cards.rows.owner]
    return so_far.astype(np.float64)


def _state(rng: np.random.Generator, cards: Cards) -> Columns:
    past_due = whole(np.where(cards.skipped > 0, 30 * cards.skipped - rng.integers(0, 30, len(cards.skipped)), 0.0))
    completed = chance(rng, _COMPLETED, len(cards.ids))[cards.rows.owner] & (cards.balance == 0)
    last_months = cards.rows.step >= 0.7 * cards.rows.lengths[cards.rows.owner]
    done = completed & last_months
    return {
        "NAME_CONTRACT_STATUS": choose({"Completed": done, "Signed": _signed(rng, cards), "Active": ~done}),
        "SK_DPD": past_due,
        "SK_DPD_DEF": np.where(chance(rng, 0.5, len(past_due)), past_due, 0),
    }


def _signed(rng: np.random.Generator, cards: Cards) -> Booleans:
    return np.equal(cards.rows.step, 0) & chance(rng, _SIGNED_FIRST, len(cards.rows.step))
