"""Monthly status of bureau credits: C closed, X unknown, 0 no delay, 1 to 5 the worst delay in steps of 30 days."""

from __future__ import annotations

import numpy as np

from .bureau import Bureau
from .category import Category
from .chunk import Chunk, Stream
from .client import Clients
from .columns import Columns, Floats, Integers
from .copula import chance
from .days import DAYS_PER_MONTH
from .runs import Runs, runs

_STATUSES = ("0", "1", "2", "3", "4", "5", "C", "X")
_CLOSED, _UNKNOWN = _STATUSES.index("C"), _STATUSES.index("X")
_WORST = _STATUSES.index("5")
_COVERED_CLIENTS = 0.47
_STOPS_EARLY = 0.11
_UNREPORTED_CREDITS = 0.45
_SPELLS, _SPELLS_SLOPE, _WORSENING = 0.12, 0.6, 0.06
_MONTHS_IN_DELAY = 2.5


def draw_bureau_balance(chunk: Chunk, clients: Clients, bureau: Bureau) -> Columns:
    """Months of the credits of those clients whose credits are followed month by month."""
    rng = chunk.generator(Stream.BUREAU_BALANCE)
    rows = np.flatnonzero(chance(rng, _COVERED_CLIENTS, len(clients))[bureau.client])
    first, months = _draw_span(rng, bureau.start[rows])
    spans = runs(months)
    ago = first[spans.owner] + spans.step
    status = _status(rng, spans, ago, ended=bureau.end[rows], lateness=clients.latent.lateness[bureau.client[rows]])
    return {"SK_ID_BUREAU": bureau.ids[rows][spans.owner], "MONTHS_BALANCE": -ago, "STATUS": status}


def _draw_span(rng: np.random.Generator, start: Floats) -> tuple[Integers, Integers]:
    """Months between the last report and the application, and number of months reported, for each credit."""
    age = np.floor(-start / DAYS_PER_MONTH).astype(np.int64) + 1
    stops = chance(rng, _STOPS_EARLY, len(age)) * rng.integers(1, 60, len(age))
    first = np.minimum(stops, age - 1)
    return first, age - first


def _status(rng: np.random.Generator, spans: Runs, ago: Integers, *, ended: Floats, lateness: Floats) -> Category:
    closed = ago < np.floor(-np.nan_to_num(ended) / DAYS_PER_MONTH)[spans.owner]
    months_open = np.bincount(spans.owner, ~closed, len(ended)).astype(np.float64)
    delay = _delay(rng, spans, months_open, lateness)
    unreported = chance(rng, _UNREPORTED_CREDITS, len(ended))[spans.owner] & (delay == 0)
    codes = np.where(closed, _CLOSED, np.where(unreported, _UNKNOWN, delay))
    return Category(_STATUSES, codes.astype(np.int16))


def _delay(rng: np.random.Generator, spans: Runs, months_open: Floats, lateness: Floats) -> Integers:
    """Delay of each month, 0 to 5: at most one spell per credit, of delays below 30 days or worse month by month."""
    size = len(lateness)
    late = chance(rng, _SPELLS * np.exp(_SPELLS_SLOPE * lateness), size)
    worsens = chance(rng, _WORSENING * np.exp(_SPELLS_SLOPE * lateness), size)
    lasts = np.where(worsens, rng.integers(2, 16, size), rng.geometric(1 / _MONTHS_IN_DELAY, size)) * late
    begins = np.floor(rng.random(size) * months_open).astype(np.int64)
    since = (spans.lengths - 1 - begins)[spans.owner] - spans.step
    within = (since >= 0) & (since < lasts[spans.owner])
    return np.where(within, np.where(worsens[spans.owner], np.minimum(since + 1, _WORST), 1), 0)
