"""Instalments of approved loans that fell due before the application, and the days on which they were paid.

POS_CASH_balance and installments_payments both follow from it, so they agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from configs.portfolios.home_credit.generator.application import Clients
from configs.portfolios.home_credit.generator.cards import Cards
from configs.portfolios.home_credit.generator.draws import (
    DAYS_PER_MONTH,
    Booleans,
    Columns,
    Floats,
    Integers,
    Marginal,
    Runs,
    blend,
    chance,
    choose,
    missing_where,
    runs,
    to_decimals,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.loan import outstanding
from configs.portfolios.home_credit.generator.offers import CASH, CONSUMER, DAYS_BETWEEN_INSTALMENTS, Contracts, Terms
from configs.portfolios.home_credit.generator.population import Chunk, Stream
from configs.portfolios.home_credit.generator.previous import Previous

_WITH_INSTALMENTS = 0.96
_AHEAD = Marginal((0, 0, 0, 0.5, 2, 6, 14, 24, 30, 45, 60))
_LATE_BY = Marginal((1, 1, 1, 1, 2, 4, 10, 21, 32, 75, 150))
_LATE, _LATE_SLOPE, _LATE_HABIT = -2.75, 0.9, 0.7


@dataclass(frozen=True, slots=True)
class Schedule:
    """Instalments, in order, of some of the previous applications.

    Per contract: `ids`, `client` (position in the chunk), `contracts`, `lateness`. Per instalment: `rows` (whose and
    which), `due` and `paid` (days, NaN while unpaid) and `amount`.
    """

    ids: Integers
    client: Integers
    contracts: Contracts
    lateness: Floats
    rows: Runs
    due: Floats
    paid: Floats
    amount: Floats


def draw_schedule(chunk: Chunk, clients: Clients, previous: Previous) -> Schedule:
    """Draw the instalments of the cash and consumer loans in `previous`."""
    rng = chunk.generator(Stream.SCHEDULE)
    with_instalments = _with_instalments(rng, previous)
    client, contracts = previous.offers.client[with_instalments], previous.contracts[with_instalments]
    lateness = clients.latent.lateness[client]
    rows = runs(contracts.due.astype(np.int64))
    due = contracts.first_due[rows.owner] + DAYS_BETWEEN_INSTALMENTS * rows.step
    paid = due + _draw_delay(rng, lateness, rows)
    return Schedule(
        ids=previous.offers.ids[with_instalments],
        client=client,
        contracts=contracts,
        lateness=lateness,
        rows=rows,
        due=due,
        # A payment on or after the day of the application is in the future, so it counts as not made.
        paid=np.where(paid < 0, paid, np.nan),
        amount=_amounts(previous.terms[with_instalments], contracts, rows),
    )


def _with_instalments(rng: np.random.Generator, previous: Previous) -> Booleans:
    loans = previous.offers.approved(CASH, CONSUMER) & previous.contracts.dated & (previous.contracts.due > 0)
    return loans & chance(rng, _WITH_INSTALMENTS, len(loans))


def _draw_delay(rng: np.random.Generator, lateness: Floats, rows: Runs) -> Floats:
    """Days from due day to payment, negative if ahead; some contracts are late again and again."""
    habit = _LATE + _LATE_SLOPE * lateness + _LATE_HABIT * rng.standard_normal(len(lateness))
    size = len(rows.owner)
    late = chance(rng, expit(habit)[rows.owner], size)
    by = np.floor(_LATE_BY.at(blend(rng, (0.4, lateness[rows.owner]))))
    ahead = np.floor(_AHEAD.at(rng.standard_normal(size)))
    return np.where(late, by, -ahead)


def _amounts(terms: Terms, contracts: Contracts, rows: Runs) -> Floats:
    """The agreed instalment; the last one of an early repayment clears what is left."""
    paid = np.maximum(contracts.due - 1, 0)
    left = outstanding(terms.credit, terms.monthly_rate, terms.instalment, paid) * (1 + terms.monthly_rate)
    last = contracts.early[rows.owner] & (rows.step == rows.lengths[rows.owner] - 1)
    clearing = np.maximum(to_multiple(left, 0.5), 0.5)
    return np.where(last, clearing[rows.owner], terms.instalment[rows.owner])


_SPLIT, _SPLIT_SLOPE = 0.05, 0.4
_SHORT, _SHORT_SLOPE = 0.005, 0.7
_CARD_VERSION, _FIRST_VERSION, _CHANGED_VERSION = 0.0, 1.0, 2.0
_CARD_AHEAD = 25


def draw_instalments(chunk: Chunk, clients: Clients, schedule: Schedule, cards: Cards) -> Columns:
    """Draw the payments of the loans in `schedule`, then those of `cards`."""
    rng = chunk.generator(Stream.INSTALMENTS)
    loans, of_cards = _loan_payments(rng, clients, schedule), _card_payments(rng, clients, cards)
    return {name: np.concatenate([loans[name], of_cards[name]]) for name in loans}


def _loan_payments(rng: np.random.Generator, clients: Clients, schedule: Schedule) -> dict[str, Floats | Integers]:
    """Some instalments are paid in two parts, the second some days later; few are not paid in full."""
    first, rest = _draw_parts(rng, schedule)
    row = np.repeat(np.arange(len(rest)), 1 + (rest > 0))
    # The cut is for a chunk without instalments, where [False] alone would be one entry too many.
    second = np.concatenate(([False], row[1:] == row[:-1]))[: len(row)]
    owner = schedule.rows.owner[row]
    last_of_early = schedule.contracts.early[owner] & (schedule.rows.step[row] == schedule.rows.lengths[owner] - 1)
    return {
        "SK_ID_PREV": schedule.ids[owner],
        "SK_ID_CURR": clients.ids[schedule.client[owner]],
        "NUM_INSTALMENT_VERSION": np.where(last_of_early, _CHANGED_VERSION, _FIRST_VERSION),
        "NUM_INSTALMENT_NUMBER": schedule.rows.step[row] + 1,
        "DAYS_INSTALMENT": schedule.due[row],
        # The second part was paid before the application, too: a later day would tell the future.
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
    """Payments of cards: the minimum, and a second payment for the amount beyond it."""
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


_SIGNED_FIRST = 0.09
_DEMAND_AFTER = 60
_COUNTED = 0.4
_UNCOUNTED = 0.0028


def draw_pos_cash(chunk: Chunk, clients: Clients, schedule: Schedule) -> Columns:
    """Draw the months of the loans in `schedule`: one per instalment, and one when a loan is completed."""
    rng = chunk.generator(Stream.POS_CASH)
    contracts = schedule.contracts
    months = runs(schedule.rows.lengths + contracts.finished)
    first = np.floor(contracts.first_due / DAYS_PER_MONTH).astype(np.int64)
    month = first[months.owner] + months.step
    completed = months.step == schedule.rows.lengths[months.owner]
    past_due = _past_due(rng, schedule, completed, months.owner)
    left = np.where(completed, 0.0, contracts.months[months.owner] - months.step)
    agreed = np.where(completed, schedule.rows.lengths[months.owner], contracts.months[months.owner])
    uncounted = chance(rng, _UNCOUNTED, len(month))
    signed = (months.step == 0) & chance(rng, _SIGNED_FIRST, len(month))
    columns: Columns = {
        "SK_ID_PREV": schedule.ids[months.owner],
        "SK_ID_CURR": clients.ids[schedule.client[months.owner]],
        "MONTHS_BALANCE": month,
        "CNT_INSTALMENT": missing_where(uncounted, agreed),
        "CNT_INSTALMENT_FUTURE": missing_where(uncounted, left),
        "NAME_CONTRACT_STATUS": choose(
            {
                "Completed": completed,
                "Demand": past_due > _DEMAND_AFTER,
                "Signed": signed,
                "Active": np.ones(len(month), dtype=np.bool_),
            }
        ),
        "SK_DPD": past_due,
        "SK_DPD_DEF": np.where(chance(rng, _COUNTED, len(month)), past_due, 0),
    }
    shown = month < 0
    return {name: values[shown] for name, values in columns.items()}


def _past_due(rng: np.random.Generator, schedule: Schedule, completed: Booleans, owner: Integers) -> Integers:
    """Days past due at the end of each month, of the oldest instalment that is open then."""
    gap = rng.integers(0, 30, len(schedule.ids)).astype(np.float64)
    # Not paid before the application: day 1 lies after every month shown, so the instalment is open in all of them.
    delay = np.where(np.isnan(schedule.paid), 1.0, schedule.paid) - schedule.due
    of_month = np.zeros(len(owner))
    of_month[~completed] = delay
    return whole(_oldest_open(of_month, gap[owner], owner))


def _oldest_open(delay: Floats, gap: Floats, owner: Integers) -> Floats:
    """Age in days of the oldest open instalment at each month's end, `gap` days after the due day of the month."""
    oldest = np.where(delay > gap, gap, 0.0)
    # _LATE_BY ends at 150 days, so an instalment of more than five months ago is never open.
    for months in range(1, 6):
        age = gap[months:] + 30.0 * months
        still_open = (delay[:-months] > age) & (owner[:-months] == owner[months:])
        oldest[months:] = np.maximum(oldest[months:], np.where(still_open, age, 0.0))
    return oldest
