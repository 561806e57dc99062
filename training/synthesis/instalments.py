"""installments_payments: one row per payment, of loans (as the schedule has them) and of cards."""

from __future__ import annotations

import numpy as np

from .card import Cards
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Columns, Floats, Integers, to_decimals, to_multiple
from .copula import chance
from .days import DAYS_PER_MONTH
from .schedule import Schedule

_SPLIT, _SPLIT_SLOPE = 0.05, 0.4
_SHORT, _SHORT_SLOPE = 0.005, 0.7
_CARD_VERSION, _FIRST_VERSION, _CHANGED_VERSION = 0.0, 1.0, 2.0
_CARD_AHEAD = 25


def draw_instalments(chunk: Chunk, clients: Clients, schedule: Schedule, cards: Cards) -> Columns:
    """Payments of the loans in `schedule`, then those of `cards`."""
    rng = chunk.generator(Stream.INSTALMENTS)
    loans, of_cards = _loan_payments(rng, clients, schedule), _card_payments(rng, clients, cards)
    return {name: np.concatenate([loans[name], of_cards[name]]) for name in loans}


def _loan_payments(rng: np.random.Generator, clients: Clients, schedule: Schedule) -> dict[str, Floats | Integers]:
    """Some instalments are paid in two parts, the second some days later; few are not paid in full."""
    first, rest = _draw_parts(rng, schedule)
    row = np.repeat(np.arange(len(rest)), 1 + (rest > 0))
    second = np.concatenate(([False], row[1:] == row[:-1]))[: len(row)]
    owner = schedule.rows.owner[row]
    last_of_early = schedule.contracts.early[owner] & (schedule.rows.step[row] == schedule.rows.lengths[owner] - 1)
    return {
        "SK_ID_PREV": schedule.ids[owner],
        "SK_ID_CURR": clients.ids[schedule.client[owner]],
        "NUM_INSTALMENT_VERSION": np.where(last_of_early, _CHANGED_VERSION, _FIRST_VERSION),
        "NUM_INSTALMENT_NUMBER": schedule.rows.step[row] + 1,
        "DAYS_INSTALMENT": schedule.due[row],
        "DAYS_ENTRY_PAYMENT": np.minimum(schedule.paid[row] + second * rng.integers(1, 8, len(row)), -1.0),
        "AMT_INSTALMENT": schedule.amount[row],
        "AMT_PAYMENT": np.where(second, rest[row], first[row]),
    }


def _draw_parts(rng: np.random.Generator, schedule: Schedule) -> tuple[Floats, Floats]:
    """First payment (NaN while unpaid) and the rest paid later (0 for most) of each instalment."""
    amount, lateness = schedule.amount, schedule.lateness[schedule.rows.owner]
    part = to_multiple(amount * rng.uniform(0.2, 0.8, len(amount)), 0.5)
    split = chance(rng, _SPLIT * np.exp(_SPLIT_SLOPE * lateness), len(amount)) & (part > 0)
    short = chance(rng, _SHORT * np.exp(_SHORT_SLOPE * lateness), len(amount))
    paid = ~np.isnan(schedule.paid)
    first = np.where(paid, np.where(split | short, part, amount), np.nan)
    return first, np.where(split & ~short & paid, amount - part, 0.0)


def _card_payments(rng: np.random.Generator, clients: Clients, cards: Cards) -> dict[str, Floats | Integers]:
    """The minimum payment, and as a payment of its own what the client paid beyond it."""
    beyond = to_decimals(cards.paid - cards.minimum, 2)
    row = np.repeat(np.arange(len(beyond)), np.where(cards.paid > 0, 1 + (beyond > 0), 0))
    second = np.concatenate(([False], row[1:] == row[:-1]))[: len(row)]
    owner = cards.rows.owner[row]
    months_ago = cards.rows.lengths[owner] - cards.rows.step[row]
    due = -np.floor(DAYS_PER_MONTH * (months_ago - 1)) - 1
    amount = np.where(second, beyond[row], np.minimum(cards.minimum, cards.paid)[row])
    return {
        "SK_ID_PREV": cards.ids[owner],
        "SK_ID_CURR": clients.ids[cards.client[owner]],
        "NUM_INSTALMENT_VERSION": np.full(len(row), _CARD_VERSION),
        "NUM_INSTALMENT_NUMBER": cards.rows.step[row] + 1,
        "DAYS_INSTALMENT": due,
        "DAYS_ENTRY_PAYMENT": due - rng.integers(0, _CARD_AHEAD, len(row)),
        "AMT_INSTALMENT": amount,
        "AMT_PAYMENT": amount,
    }
