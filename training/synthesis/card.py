"""credit_card_balance: the state of each card at the end of every month.

A card's balance follows from the month before: interest, drawings up to the limit, payments. Late payers skip
payments, indebted clients draw more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Floats, Integers, to_decimals, to_multiple
from .copula import chance
from .days import DAYS_PER_MONTH
from .offer import REVOLVING
from .previous import Previous
from .runs import Runs, runs

_MONTHS_SHOWN = 96
_FOLLOWED, _EVER_USED = 0.95, 0.78
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
    """The cards that `clients` were granted before."""
    rng = chunk.generator(Stream.CARD)
    followed = previous.offers.approved(REVOLVING) & (previous.offers.day < -DAYS_PER_MONTH)
    followed &= chance(rng, _FOLLOWED, len(followed))
    client, limit = previous.offers.client[followed], previous.terms.credit[followed]
    used = chance(rng, _EVER_USED, len(client))
    age = np.minimum(np.floor(-previous.offers.day[followed] / DAYS_PER_MONTH), _MONTHS_SHOWN).astype(np.int64)
    rows = runs(age)
    latent = clients.latent
    months = _simulate(rng, limit, used, latent.lateness[client], latent.leverage[client], length=_longest(age))
    per_month = {name: _flat(months, name, rows) for name in _Month.__slots__}
    return Cards(
        ids=previous.offers.ids[followed],
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
    habit = rng.gamma(_HABIT, 1 / _HABIT, len(limit))
    draws = np.where(used, _DRAWS * habit * np.exp(0.3 * leverage), 0.0)
    skips = _SKIPS * np.exp(0.8 * lateness)
    months = []
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
    drawn = np.where(chance(rng, draws, size), np.minimum(wanted, np.floor(room / 45) * 45), 0.0)
    balance = to_decimals(before.balance - paid + interest + drawn, 2)
    in_a_row = np.where(skipped, before.skipped + 1, 0.0)
    return _Month(drawn, minimum, paid, interest, balance, in_a_row)
