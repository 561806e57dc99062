"""POS_CASH_balance: the state of each previous loan at the end of every month."""

from __future__ import annotations

import numpy as np

from .category import choose
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Columns, Floats, Integers, missing_where, whole
from .copula import chance
from .days import DAYS_PER_MONTH
from .runs import runs
from .schedule import Schedule

_SIGNED_FIRST = 0.09
_DEMAND_AFTER = 60
_COUNTED = 0.4
_UNCOUNTED = 0.0028


def draw_pos_cash(chunk: Chunk, clients: Clients, schedule: Schedule) -> Columns:
    """Months of the loans in `schedule`: one per instalment, and one when a loan is completed."""
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
    """Days past due at the end of each month: of the instalment of that month or of one still open from before."""
    gap = rng.integers(0, 30, len(schedule.ids)).astype(np.float64)
    delay = np.where(np.isnan(schedule.paid), 1.0, schedule.paid) - schedule.due
    of_month = np.zeros(len(owner))
    of_month[~completed] = delay
    return whole(_open_for(of_month, gap[owner], owner))


def _open_for(delay: Floats, gap: Floats, owner: Integers) -> Floats:
    """Age in days of the oldest open instalment at each month's end, `gap` days after the due day of the month."""
    oldest = np.where(delay > gap, gap, 0.0)
    for months in range(1, 6):
        age = gap[months:] + 30.0 * months
        still_open = (delay[:-months] > age) & (owner[:-months] == owner[months:])
        oldest[months:] = np.maximum(oldest[months:], np.where(still_open, age, 0.0))
    return oldest
