"""The credits behind the bureau's files: kind, dates and amount of each.

Clients without a bureau file have none. Debt (`leverage`) shows as more, more recent and longer running credits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .category import Category, Shares
from .client import Clients
from .columns import Booleans, Floats, Integers, to_multiple
from .copula import Marginal, blend, chance

UNIT = 4.5
CARD = "Credit card"

_CREDITS_BEYOND_FIRST, _CREDITS_DISPERSION, _CREDITS_SLOPE = 5.5, 1.6, 0.12


class _Kind(NamedTuple):
    """Share of the facts, days since the start, planned days, amount, share without planned end."""

    share: float
    start: Marginal
    term: Marginal
    amount: Marginal
    open_ended: float


_LONG_AGO = Marginal((2, 42, 142, 237, 518, 1_065, 1_744, 2_469, 2_689, 2_873, 2_922))
_RECENT = Marginal((4, 46, 137, 224, 423, 810, 1_363, 2_090, 2_507, 2_819, 2_920))
_YEARS = Marginal((30, 92, 182, 365, 730, 1_096, 1_826, 1_826, 1_827, 2_557, 3_653))
_SMALL = Marginal((2_250, 13_500, 21_150, 27_900, 54_000, 119_000, 314_000, 795_000, 1_200_000, 2_300_000, 6_000_000))
_KINDS = {
    "Consumer credit": _Kind(
        0.728, _LONG_AGO, Marginal((7, 16, 92, 127, 212, 365, 828, 1_826, 1_826, 1_827, 2_557)), _SMALL, 0.01
    ),
    CARD: _Kind(
        0.234,
        _RECENT,
        Marginal((30, 90, 214, 365, 1_070, 1_380, 2_557, 31_070, 31_600, 32_400, 33_400)),
        Marginal(
            (0, 0, 42e3, 112.5e3, 225e3, 427.5e3, 537e3, 900e3, 3e6), (0, 0.17, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
        ),
        0.22,
    ),
    "Car loan": _Kind(
        0.0157,
        _LONG_AGO,
        Marginal((90, 170, 366, 730, 1_096, 1_816, 1_826, 1_827, 1_829, 2_549, 2_557)),
        Marginal((45e3, 119e3, 494e3, 690e3, 1.03e6, 1.62e6, 2.36e6, 3.38e6, 4.05e6, 7.98e6, 9.9e6)),
        0.01,
    ),
    "Mortgage": _Kind(
        0.0103,
        _RECENT,
        Marginal((180, 730, 1_825, 2_617, 3_656, 5_480, 7_305, 7_634, 9_190, 10_958, 10_975)),
        Marginal((360e3, 980e3, 1.57e6, 1.93e6, 3.02e6, 4.72e6, 6.98e6, 9.81e6, 12e6, 17.8e6, 30e6)),
        0.05,
    ),
    "Microloan": _Kind(
        0.0094,
        Marginal((1, 4, 14, 21, 43, 99, 210, 335, 621, 805, 1_126)),
        Marginal((1, 4, 7, 8, 15, 21, 58, 228, 364, 737, 1_096)),
        Marginal((2_700, 4_500, 6_750, 9_000, 13_500, 22_500, 45_000, 70_600, 123_000, 396_000, 900_000)),
        0.45,
    ),
    **{
        name: _Kind(share, _LONG_AGO, _YEARS, _SMALL, 0.05)
        for name, share in {
            "Loan for business development": 0.0012,
            "Another type of loan": 6e-4,
            "Unknown type of loan": 3e-4,
            "Loan for working capital replenishment": 3e-4,
            "Cash loan (non-earmarked)": 1e-4,
            "Loan for the purchase of equipment": 2e-5,
        }.items()
    },
}
_TYPES = Shares.of({name: kind.share for name, kind in _KINDS.items()})
_DELAY_OF_END = Marginal((-60, -30, -5, 0, 0, 0, 0, 25, 93, 760, 1_500))


@dataclass(frozen=True, slots=True)
class Credits:
    """Credits with other lenders, shape (n,) each; days relative to the application.

    `client` is the position of the owner in the chunk; `end` is NaN while a credit runs or once it is `sold`.
    """

    client: Integers
    kind: Category
    start: Floats
    planned_end: Floats
    end: Floats
    amount: Floats
    sold: Booleans
    leverage: Floats
    lateness: Floats

    @property
    def open_ended(self) -> Floats:
        """Probability that the planned end is not reported, by kind."""
        return self.kind.values({name: kind.open_ended for name, kind in _KINDS.items()})

    @property
    def closed(self) -> Booleans:
        """Which credits have ended."""
        return ~np.isnan(self.end)

    @property
    def active(self) -> Booleans:
        """Which credits run."""
        return np.isnan(self.end) & ~self.sold


def draw_credits(rng: np.random.Generator, clients: Clients) -> Credits:
    """The credits of `clients` with other lenders."""
    client = _draw_owners(rng, clients)
    leverage, lateness = clients.latent.leverage[client], clients.latent.lateness[client]
    kind = _TYPES.draw(rng, len(client))
    start = -np.maximum(np.floor(_by_kind(kind, "start", blend(rng, (-0.22, leverage)))), 1.0)
    length = rng.standard_normal(len(client))
    term = np.floor(_by_kind(kind, "term", length))
    amount = _by_kind(kind, "amount", blend(rng, (0.25, clients.income_score[client]), (0.5, length)))
    end = _draw_end(rng, kind, start, term, leverage)
    sold = np.isnan(end) & chance(rng, 0.01 * np.exp(0.5 * lateness), len(client))
    return Credits(client, kind, start, start + term, end, to_multiple(amount, UNIT), sold, leverage, lateness)


def _draw_owners(rng: np.random.Generator, clients: Clients) -> Integers:
    """Position of the owner of each credit: at least one per client with a file."""
    mean = _CREDITS_BEYOND_FIRST * np.exp(_CREDITS_SLOPE * clients.latent.leverage - _CREDITS_SLOPE**2 / 2)
    beyond = rng.negative_binomial(_CREDITS_DISPERSION, _CREDITS_DISPERSION / (_CREDITS_DISPERSION + mean))
    return np.repeat(np.arange(len(clients)), np.where(clients.filed, 1 + beyond, 0))


def _by_kind(kind: Category, field: str, scores: Floats) -> Floats:
    """Values of one marginal of the kinds, shape (n,)."""
    values = np.empty(len(scores))
    for code, entry in enumerate(_KINDS.values()):
        rows = kind.codes == code
        values[rows] = getattr(entry, field).at(scores[rows])
    return values


def _draw_end(rng: np.random.Generator, kind: Category, start: Floats, term: Floats, leverage: Floats) -> Floats:
    """Day each credit ended, NaN while it runs: early, on the planned day, or late; later under more debt."""
    size, elapsed = len(start), np.minimum(-start / np.maximum(term, 1), 1.0)
    card = kind.equals(CARD)
    early = chance(rng, expit(np.where(card, -2.4, -1.5) + 1.2 * elapsed - 0.55 * leverage), size)
    early_end = start + rng.uniform(0.3, 0.95, size) * np.minimum(term, -start)
    due = start + term + _DELAY_OF_END.at(blend(rng, (0.1, leverage)))
    lingers = chance(rng, 0.06 * np.exp(0.3 * leverage), size)
    end = np.where(early, np.maximum(early_end, start), np.where((due < 0) & ~lingers, due, np.nan))
    return np.floor(np.minimum(np.maximum(end, start), -1.0))
