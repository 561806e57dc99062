"""The instalments of approved cash and consumer loans that fell due before the application, and when they were paid.

POS_CASH_balance and installments_payments both follow from it, so they agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .annuity import outstanding
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Booleans, Floats, Integers, to_multiple
from .contract import DAYS_BETWEEN_INSTALMENTS, Contracts
from .copula import Marginal, blend, chance
from .offer import CASH, CONSUMER
from .previous import Previous
from .runs import Runs, runs
from .terms import Terms

_FOLLOWED = 0.96
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
    """The instalments of the previous loans in `previous`."""
    rng = chunk.generator(Stream.SCHEDULE)
    followed = _followed(rng, previous)
    client, contracts = previous.offers.client[followed], previous.contracts[followed]
    lateness = clients.latent.lateness[client]
    rows = runs(contracts.due.astype(np.int64))
    due = contracts.first_due[rows.owner] + DAYS_BETWEEN_INSTALMENTS * rows.step
    paid = due + _draw_delay(rng, lateness, rows)
    return Schedule(
        ids=previous.offers.ids[followed],
        client=client,
        contracts=contracts,
        lateness=lateness,
        rows=rows,
        due=due,
        paid=np.where(paid < 0, paid, np.nan),
        amount=_amounts(previous.terms[followed], contracts, rows),
    )


def _followed(rng: np.random.Generator, previous: Previous) -> Booleans:
    loans = previous.offers.approved(CASH, CONSUMER) & previous.contracts.dated & (previous.contracts.due > 0)
    return loans & chance(rng, _FOLLOWED, len(loans))


def _draw_delay(rng: np.random.Generator, lateness: Floats, rows: Runs) -> Floats:
    """Days from due day to payment, negative if ahead: late ones come from the same contracts again and again."""
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
