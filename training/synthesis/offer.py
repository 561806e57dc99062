"""Which previous applications each client made: contract, answer, day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .category import Category, Shares
from .client import Clients
from .columns import Booleans, Floats, Integers
from .copula import Marginal, blend, chance

CASH, CONSUMER, REVOLVING = "Cash loans", "Consumer loans", "Revolving loans"
APPROVED, CANCELED, REFUSED, UNUSED = "Approved", "Canceled", "Refused", "Unused offer"

_WITHOUT_HISTORY = 0.054
_BEYOND_FIRST, _DISPERSION = 4.7, 1.9


class _Kind(NamedTuple):
    """Contract and answer, their share, the share that got as far as an amount, days before the application."""

    contract: str
    status: str
    share: float
    priced: float
    days: Marginal


_OFTEN = Marginal((2, 65, 186, 272, 473, 774, 1_160, 1_850, 2_386, 2_750, 2_920))
_CALLED_OFF = Marginal((2, 5, 21, 51, 148, 258, 375, 477, 526, 578, 1_000))
_TURNED_DOWN = Marginal((2, 11, 51, 133, 224, 397, 667, 1_321, 1_926, 2_615, 2_910))
_IN_SHOPS = Marginal((2, 39, 160, 263, 524, 1_060, 1_925, 2_524, 2_712, 2_875, 2_922))
_CARDS = Marginal((3, 46, 190, 280, 520, 1_050, 1_700, 2_350, 2_600, 2_870, 2_922))
_KINDS = (
    _Kind(CASH, APPROVED, 0.19, 1.0, _OFTEN),
    _Kind(CASH, CANCELED, 0.162, 0.035, _CALLED_OFF),
    _Kind(CASH, REFUSED, 0.089, 0.83, _TURNED_DOWN),
    _Kind(CONSUMER, APPROVED, 0.365, 1.0, _IN_SHOPS),
    _Kind(CONSUMER, CANCELED, 0.001, 0.16, _IN_SHOPS),
    _Kind(CONSUMER, REFUSED, 0.039, 0.83, _IN_SHOPS),
    _Kind(CONSUMER, UNUSED, 0.016, 0.02, _IN_SHOPS),
    _Kind(REVOLVING, APPROVED, 0.063, 1.0, _CARDS),
    _Kind(REVOLVING, CANCELED, 0.026, 0.01, _CALLED_OFF),
    _Kind(REVOLVING, REFUSED, 0.025, 0.95, _TURNED_DOWN),
)
_SHARES = Shares(tuple(f"{kind.contract}, {kind.status}" for kind in _KINDS), tuple(kind.share for kind in _KINDS))
_RISK_OF_STATUS = {APPROVED: 0.0, CANCELED: 0.15, REFUSED: 0.5, UNUSED: 0.1}


@dataclass(frozen=True, slots=True)
class Offers:
    """Previous applications, shape (n,) each. `client` is the position of the client in the chunk.

    `day` counts from the present application, so it is negative; `priced` says whether an amount was agreed on;
    `first` marks each client's oldest one.
    """

    ids: Integers
    client: Integers
    contract: Category
    status: Category
    day: Floats
    priced: Booleans
    first: Booleans

    def __len__(self) -> int:
        return len(self.ids)

    def approved(self, *contracts: str) -> Booleans:
        """Which rows are approved applications for one of `contracts`."""
        return self.contract.among(contracts) & self.status.equals(APPROVED)


def draw_offers(rng: np.random.Generator, clients: Clients, *, first_id: int) -> Offers:
    """Previous applications of `clients`, identified from `first_id` on."""
    client = _draw_owners(rng, clients)
    kind = _draw_kind(rng, clients, client)
    day = -np.maximum(np.floor(_days(kind, blend(rng, (-0.12, clients.latent.stability[client])))), 2.0)
    return Offers(
        ids=np.arange(first_id, first_id + len(client), dtype=np.int64),
        client=client,
        contract=_label(kind, tuple(entry.contract for entry in _KINDS)),
        status=_label(kind, tuple(entry.status for entry in _KINDS)),
        day=day,
        priced=chance(rng, np.array([entry.priced for entry in _KINDS])[kind], len(client)),
        first=_oldest(client, day, len(clients)),
    )


def _draw_owners(rng: np.random.Generator, clients: Clients) -> Integers:
    """Position of the client of each application; some clients are new."""
    beyond = rng.negative_binomial(_DISPERSION, _DISPERSION / (_DISPERSION + _BEYOND_FIRST), len(clients))
    new = chance(rng, _WITHOUT_HISTORY, len(clients))
    return np.repeat(np.arange(len(clients)), np.where(new, 0, 1 + beyond))


def _draw_kind(rng: np.random.Generator, clients: Clients, client: Integers) -> Integers:
    """Position in `_KINDS`, shape (n,); late payers and unstable clients are refused more often."""
    risk = (clients.latent.lateness + 0.6 * clients.latent.stability)[client]
    strength = np.array([_RISK_OF_STATUS[kind.status] for kind in _KINDS])
    return _SHARES.draw_tilted(rng, np.exp(risk[:, None] * strength)).codes.astype(np.int64)


def _days(kind: Integers, scores: Floats) -> Floats:
    days = np.empty(len(kind))
    for code, entry in enumerate(_KINDS):
        days[kind == code] = entry.days.at(scores[kind == code])
    return days


def _label(kind: Integers, labels: tuple[str, ...]) -> Category:
    levels = tuple(dict.fromkeys(labels))
    return Category(levels, np.array([levels.index(label) for label in labels], dtype=np.int16)[kind])


def _oldest(client: Integers, day: Floats, clients: int) -> Booleans:
    earliest = np.full(clients, np.inf)
    np.minimum.at(earliest, client, day)
    oldest: Booleans = day == earliest[client]
    return oldest
