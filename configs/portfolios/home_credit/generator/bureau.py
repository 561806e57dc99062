"""bureau and bureau_balance: credits that other lenders reported to the credit bureau.

More debt (`leverage`) leaves more of a credit unpaid; late payment (`lateness`) gives overdue amounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from configs.portfolios.home_credit.generator.application import Clients
from configs.portfolios.home_credit.generator.draws import (
    DAYS_PER_MONTH,
    Booleans,
    Category,
    Columns,
    Floats,
    Integers,
    LevelShares,
    Marginal,
    Runs,
    blend,
    chance,
    choose,
    missing_where,
    runs,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.population import Chunk, Stream

UNIT = 4.5
CARD = "Credit card"

_CREDITS_BEYOND_FIRST, _CREDITS_DISPERSION, _CREDITS_SLOPE = 5.5, 1.6, 0.12


class _CreditKind(NamedTuple):
    """Share of all credits, days since the start, planned days, amount, share without planned end."""

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
    "Consumer credit": _CreditKind(
        0.728, _LONG_AGO, Marginal((7, 16, 92, 127, 212, 365, 828, 1_826, 1_826, 1_827, 2_557)), _SMALL, 0.01
    ),
    CARD: _CreditKind(
        0.234,
        _RECENT,
        # Some cards have no real end: they are reported with a day 85 to 91 years after their start.
        Marginal((30, 90, 214, 365, 1_070, 1_380, 2_557, 31_070, 31_600, 32_400, 33_400)),
        Marginal(
            (0, 0, 42e3, 112.5e3, 225e3, 427.5e3, 537e3, 900e3, 3e6), (0, 0.17, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
        ),
        0.22,
    ),
    "Car loan": _CreditKind(
        0.0157,
        _LONG_AGO,
        Marginal((90, 170, 366, 730, 1_096, 1_816, 1_826, 1_827, 1_829, 2_549, 2_557)),
        Marginal((45e3, 119e3, 494e3, 690e3, 1.03e6, 1.62e6, 2.36e6, 3.38e6, 4.05e6, 7.98e6, 9.9e6)),
        0.01,
    ),
    "Mortgage": _CreditKind(
        0.0103,
        _RECENT,
        Marginal((180, 730, 1_825, 2_617, 3_656, 5_480, 7_305, 7_634, 9_190, 10_958, 10_975)),
        Marginal((360e3, 980e3, 1.57e6, 1.93e6, 3.02e6, 4.72e6, 6.98e6, 9.81e6, 12e6, 17.8e6, 30e6)),
        0.05,
    ),
    "Microloan": _CreditKind(
        0.0094,
        Marginal((1, 4, 14, 21, 43, 99, 210, 335, 621, 805, 1_126)),
        Marginal((1, 4, 7, 8, 15, 21, 58, 228, 364, 737, 1_096)),
        Marginal((2_700, 4_500, 6_750, 9_000, 13_500, 22_500, 45_000, 70_600, 123_000, 396_000, 900_000)),
        0.45,
    ),
    **{
        name: _CreditKind(share, _LONG_AGO, _YEARS, _SMALL, 0.05)
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
_TYPES = LevelShares.of({name: kind.share for name, kind in _KINDS.items()})
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
    """Draw the credits of `clients` with other lenders."""
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
    # exp(s z) of a standard normal z has the mean exp(s^2 / 2); taking it off keeps the mean count as stated.
    mean = _CREDITS_BEYOND_FIRST * np.exp(_CREDITS_SLOPE * clients.latent.leverage - _CREDITS_SLOPE**2 / 2)
    beyond = rng.negative_binomial(_CREDITS_DISPERSION, _CREDITS_DISPERSION / (_CREDITS_DISPERSION + mean))
    return np.repeat(np.arange(len(clients)), np.where(clients.in_bureau, 1 + beyond, 0))


def _by_kind(kind: Category, field: str, scores: Floats) -> Floats:
    """Values of one marginal of the kinds, shape (n,)."""
    values = np.empty(len(scores))
    for code, entry in enumerate(_KINDS.values()):
        rows = kind.codes == code
        values[rows] = getattr(entry, field).at(scores[rows])
    return values


def _draw_end(rng: np.random.Generator, kind: Category, start: Floats, term: Floats, leverage: Floats) -> Floats:
    """Day on which each credit ended, NaN while it runs; clients with more debt end later."""
    size, elapsed = len(start), np.minimum(-start / np.maximum(term, 1), 1.0)
    card = kind.equals(CARD)
    early = chance(rng, expit(np.where(card, -2.4, -1.5) + 1.2 * elapsed - 0.55 * leverage), size)
    early_end = start + rng.uniform(0.3, 0.95, size) * np.minimum(term, -start)
    due = start + term + _DELAY_OF_END.at(blend(rng, (0.1, leverage)))
    lingers = chance(rng, 0.06 * np.exp(0.3 * leverage), size)
    end = np.where(early, np.maximum(early_end, start), np.where((due < 0) & ~lingers, due, np.nan))
    # An end on or after the day of the application would tell the model the future.
    return np.floor(np.minimum(np.maximum(end, start), -1.0))


FIRST_CREDIT = 5_000_001

_CURRENCIES = LevelShares.of({"currency 1": 0.9992, "currency 2": 0.0007, "currency 3": 0.0001})
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
    """Draw the bureau credits of `clients`; their identifiers start at `first_id`."""
    rng = chunk.generator(Stream.BUREAU)
    drawn = draw_credits(rng, clients)
    ids = np.arange(first_id, first_id + len(drawn.client), dtype=np.int64)
    columns: Columns = {"SK_ID_CURR": clients.ids[drawn.client], "SK_ID_BUREAU": ids}
    columns |= _identity(rng, drawn) | _dates(rng, drawn) | _amounts(rng, drawn)
    return Bureau(ids, drawn.client, drawn.start, drawn.end, columns)


def _identity(rng: np.random.Generator, drawn: Credits) -> Columns:
    size = len(drawn.client)
    return {
        "CREDIT_ACTIVE": choose({"Closed": drawn.closed, "Active": drawn.active, "Sold": drawn.sold}),
        "CREDIT_CURRENCY": _CURRENCIES.draw(rng, size),
        "CREDIT_TYPE": drawn.kind,
    }


def _dates(rng: np.random.Generator, drawn: Credits) -> Columns:
    size = len(drawn.client)
    open_ended = chance(rng, drawn.open_ended, size)
    after_end = np.nan_to_num(drawn.end) + _UPDATE_AFTER_END.at(rng.standard_normal(size))
    while_active = -np.minimum(_UPDATE_OF_ACTIVE.at(rng.standard_normal(size)), -drawn.start)
    # The bureau answers on the day of the application, so no report is younger than that.
    updated = np.where(drawn.closed, np.minimum(after_end, while_active), while_active)
    overdue = _overdue_now(rng, drawn)
    owed = to_multiple(_OVERDUE_NOW.at(rng.standard_normal(size)), UNIT)
    return {
        "DAYS_CREDIT": whole(drawn.start),
        "CREDIT_DAY_OVERDUE": whole(np.where(overdue, _OVERDUE_DAYS.at(rng.standard_normal(size)), 0.0)),
        "DAYS_CREDIT_ENDDATE": missing_where(open_ended, drawn.planned_end),
        "DAYS_ENDDATE_FACT": drawn.end,
        "CNT_CREDIT_PROLONG": chance(rng, 0.004, size) * (1 + rng.poisson(0.2, size)),
        "DAYS_CREDIT_UPDATE": whole(updated),
        "AMT_CREDIT_SUM_OVERDUE": np.where(overdue, owed, 0.0),
    }


def _overdue_now(rng: np.random.Generator, drawn: Credits) -> Booleans:
    return drawn.active & chance(rng, 0.006 * np.exp(0.8 * drawn.lateness), len(drawn.client))


def _amounts(rng: np.random.Generator, drawn: Credits) -> Columns:
    size = len(drawn.client)
    card = drawn.kind.equals(CARD)
    debt = np.where(drawn.closed, 0.0, to_multiple(drawn.amount * _debt_share(rng, drawn, card), UNIT))
    limited = card & drawn.active & chance(rng, 0.35, size)
    limit = np.where(limited, np.maximum(drawn.amount - debt, 0.0), 0.0)
    ever_overdue = chance(rng, expit(-1.5 + 0.6 * drawn.lateness + 0.15 * drawn.leverage), size)
    worst = np.where(ever_overdue, to_multiple(_OVERDUE_AMOUNT.at(rng.standard_normal(size)), 0.5), 0.0)
    return {
        "AMT_CREDIT_MAX_OVERDUE": missing_where(chance(rng, 0.672, size), worst),
        "AMT_CREDIT_SUM": drawn.amount,
        "AMT_CREDIT_SUM_DEBT": missing_where(chance(rng, np.where(drawn.closed, 0.165, 0.106), size), debt),
        "AMT_CREDIT_SUM_LIMIT": missing_where(chance(rng, np.where(card, 0.2, 0.42), size), limit),
        "AMT_ANNUITY": _instalment(rng, drawn),
    }


def _debt_share(rng: np.random.Generator, drawn: Credits, card: Booleans) -> Floats:
    """Debt over credit of a running credit, shape (n,): what is left of the term, or the use of the card."""
    length = np.maximum(drawn.planned_end - drawn.start, 1.0)
    # A power keeps the share within 0..1, where a factor would not.
    left = np.clip(drawn.planned_end / length, 0.02, 1.0) ** np.exp(-0.35 * drawn.leverage)
    noisy = left * np.exp(0.12 * rng.standard_normal(len(left)))
    return np.where(card, _CARD_USE.at(blend(rng, (0.5, drawn.leverage))), noisy)


def _instalment(rng: np.random.Generator, drawn: Credits) -> Floats:
    """Mostly missing or 0, otherwise the amount spread over the term with interest."""
    size = len(drawn.client)
    months = np.clip((drawn.planned_end - drawn.start) / DAYS_PER_MONTH, 3.0, 120.0)
    instalment = to_multiple(drawn.amount * 1.25 / months, UNIT)
    zero = chance(rng, 0.56, size)
    return missing_where(chance(rng, 0.57, size), np.where(zero, 0.0, instalment))


# The layout's codes: classes of delay, C for a closed credit, X for a month without a report.
_STATUSES = ("0", "1", "2", "3", "4", "5", "C", "X")
_CLOSED, _UNKNOWN = _STATUSES.index("C"), _STATUSES.index("X")
_WORST = _STATUSES.index("5")
_COVERED_CLIENTS = 0.47
_STOPS_EARLY = 0.11
_UNREPORTED_CREDITS = 0.45
_SPELLS, _SPELLS_SLOPE, _WORSENING = 0.12, 0.6, 0.06
_MONTHS_IN_DELAY = 2.5


def draw_bureau_balance(chunk: Chunk, clients: Clients, bureau: Bureau) -> Columns:
    """Draw the months of credits, for the clients whose credits are reported month by month."""
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
    # X is a month without a report; it must not overwrite a delay that was drawn.
    unreported = chance(rng, _UNREPORTED_CREDITS, len(ended))[spans.owner] & (delay == 0)
    codes = np.where(closed, _CLOSED, np.where(unreported, _UNKNOWN, delay))
    return Category(_STATUSES, codes.astype(np.int16))


def _delay(rng: np.random.Generator, spans: Runs, months_open: Floats, lateness: Floats) -> Integers:
    """Delay class of each month, 0 to 5; a credit has one spell at most, which stays in class 1 or worsens monthly."""
    size = len(lateness)
    late = chance(rng, _SPELLS * np.exp(_SPELLS_SLOPE * lateness), size)
    worsens = chance(rng, _WORSENING * np.exp(_SPELLS_SLOPE * lateness), size)
    lasts = np.where(worsens, rng.integers(2, 16, size), rng.geometric(1 / _MONTHS_IN_DELAY, size)) * late
    begins = np.floor(rng.random(size) * months_open).astype(np.int64)
    since = (spans.lengths - 1 - begins)[spans.owner] - spans.step
    within = (since >= 0) & (since < lasts[spans.owner])
    return np.where(within, np.where(worsens[spans.owner], np.minimum(since + 1, _WORST), 1), 0)
