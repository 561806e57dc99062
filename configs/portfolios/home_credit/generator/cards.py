"""credit_card_balance: draws the state of each card at the end of every month.

A card's balance follows from the month before: interest, drawings up to the limit, payments. Late payers skip
payments, indebted clients draw more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.portfolios.home_credit.generator.application import Clients
from configs.portfolios.home_credit.generator.draws import (
    DAYS_PER_MONTH,
    Booleans,
    Columns,
    Floats,
    Integers,
    Runs,
    chance,
    choose,
    missing_where,
    runs,
    to_decimals,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.offers import REVOLVING
from configs.portfolios.home_credit.generator.population import Chunk, Stream
from configs.portfolios.home_credit.generator.previous import Previous

_MONTHS_SHOWN = 96
_WITH_MONTHS, _EVER_USED = 0.95, 0.78
_MONTHLY_INTEREST = 0.02
_MINIMUM_SHARE, _MINIMUM = 0.05, 2_250.0
_DRAWS, _DRAW_SIZE, _HABIT = 0.23, 0.25, 0.7
_SKIPS = 0.05

Grid = NDArray[np.float64]
"""One row per month since each card's first, one column per card, shape (months, cards)."""


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards and their months. `ids`, `client`, `used` per card; the rest per month of `rows`, oldest first.

    Amounts in currency: `limit`, `drawn` (of it `cash` from machines), `minimum` payment asked for, `paid`, `balance`
    at the end and `interest` within it. `skipped` counts the payments missed in a row.
    """

    ids: Integers
    client: Integers
    used: Booleans
    rows: Runs
    limit: Floats
    drawn: Floats
    cash: Floats
    minimum: Floats
    paid: Floats
    interest: Floats
    balance: Floats
    skipped: Floats


@dataclass(frozen=True, slots=True)
class _Month:
    """One month of all cards, shape (cards,) each."""

    drawn: Floats
    minimum: Floats
    paid: Floats
    interest: Floats
    balance: Floats
    skipped: Floats


def draw_cards(chunk: Chunk, clients: Clients, previous: Previous) -> Cards:
    """Draw the cards that this lender granted to `clients` before, month by month."""
    rng = chunk.generator(Stream.CARD)
    with_months = previous.offers.approved(REVOLVING) & (previous.offers.day < -DAYS_PER_MONTH)
    with_months &= chance(rng, _WITH_MONTHS, len(with_months))
    client, limit = previous.offers.client[with_months], previous.terms.credit[with_months]
    used = chance(rng, _EVER_USED, len(client))
    age = np.minimum(np.floor(-previous.offers.day[with_months] / DAYS_PER_MONTH), _MONTHS_SHOWN).astype(np.int64)
    rows = runs(age)
    latent = clients.latent
    months = _simulate(rng, limit, used, latent.lateness[client], latent.leverage[client], length=_longest(age))
    per_month = {name: _flat(months, name, rows) for name in _Month.__slots__}
    return Cards(
        ids=previous.offers.ids[with_months],
        client=client,
        used=used,
        rows=rows,
        limit=limit[rows.owner],
        cash=_from_machines(rng, per_month["drawn"]),
        **per_month,
    )


def _longest(age: Integers) -> int:
    return int(age.max(initial=1))


def _flat(months: list[_Month], name: str, rows: Runs) -> Floats:
    # All cards are simulated to the age of the oldest; this takes the months that each card has lived.
    by_month: Grid = np.stack([getattr(month, name) for month in months])
    return by_month[rows.step, rows.owner]


def _from_machines(rng: np.random.Generator, drawn: Floats) -> Floats:
    """The part of each drawing that is cash: all of it in two cases of seven."""
    share = np.minimum(1.4 * rng.random(len(drawn)), 1.0)
    return np.minimum(to_multiple(share * drawn, 450.0), drawn)


def _simulate(
    rng: np.random.Generator, limit: Floats, used: Booleans, lateness: Floats, leverage: Floats, *, length: int
) -> list[_Month]:
    """The months of all cards from their first to the `length`-th."""
    nothing = np.zeros(len(limit))
    month = _Month(nothing, nothing, nothing, nothing, nothing, nothing)
    # Gamma of mean 1: few cards are used much, and the mean habit leaves _DRAWS as it is.
    habit = rng.gamma(_HABIT, 1 / _HABIT, len(limit))
    draws = np.where(used, _DRAWS * habit * np.exp(0.3 * leverage), 0.0)
    skips = _SKIPS * np.exp(0.8 * lateness)
    months = []
    # Each month needs the one before, so the loop is over months, 96 at most, and takes all cards at once.
    for _ in range(length):
        month = _next(rng, month, limit, draws=draws, skips=skips)
        months.append(month)
    return months


def _next(rng: np.random.Generator, before: _Month, limit: Floats, *, draws: Floats, skips: Floats) -> _Month:
    """The month after `before`."""
    size = len(limit)
    minimum = np.where(before.balance > 0, np.maximum(_MINIMUM_SHARE * before.balance, _MINIMUM), 0.0)
    minimum = to_decimals(np.minimum(minimum, before.balance), 2)
    skipped = chance(rng, skips, size) & (minimum > 0)
    generous = minimum * (1 + rng.exponential(1.0, size))
    paid = np.where(skipped, 0.0, to_decimals(np.minimum(generous, before.balance), 2))
    interest = to_decimals(_MONTHLY_INTEREST * (before.balance - paid), 2)
    room = np.maximum(limit - before.balance - interest + paid, 0.0)
    wanted = to_multiple(limit * rng.exponential(_DRAW_SIZE, size), 45.0)
    # Rounded down: rounding to the nearest multiple could exceed the limit.
    drawn = np.where(chance(rng, draws, size), np.minimum(wanted, np.floor(room / 45) * 45), 0.0)
    # Rounded every month, so that the amounts in the file add up to the balance in the file.
    balance = to_decimals(before.balance - paid + interest + drawn, 2)
    in_a_row = np.where(skipped, before.skipped + 1, 0.0)
    return _Month(drawn, minimum, paid, interest, balance, in_a_row)


_NO_MINIMUM_KNOWN = 0.07
_COMPLETED, _SIGNED_FIRST = 0.15, 0.1


def draw_card_balance(chunk: Chunk, clients: Clients, cards: Cards) -> Columns:
    """Draw the rows of credit_card_balance; a card that was never used lacks the drawings by kind."""
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
    requested = np.cumsum(cards.minimum > 0)
    first = np.cumsum(cards.rows.lengths) - cards.rows.lengths
    before = np.concatenate(([0], requested))[first]
    so_far: Integers = requested - before[cards.rows.owner]
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
