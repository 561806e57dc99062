"""A chunk: the clients that are generated, written and forgotten together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .columns import Booleans, Integers
from .drift import LATER, TRAINING, Population

CHUNK_CLIENTS = 20_000
TEST_SHARE = 0.16
FIRST_CLIENT = 100_001
_IDENTIFIERS = 2


class Split(IntEnum):
    """The file that a client's application belongs to."""

    TRAIN = 0
    TEST = 1


class Stream(IntEnum):
    """The independent sources of randomness inside one chunk; the numbers are part of what a seed means."""

    APPLICATION = 0
    OUTCOME = 1
    BUREAU = 2
    BUREAU_BALANCE = 3
    PREVIOUS = 4
    SCHEDULE = 5
    POS_CASH = 6
    CARD = 7
    CARD_BALANCE = 8
    INSTALMENTS = 9


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some clients of one split, with generators that depend on nothing but seed, split, position and stream."""

    seed: int
    split: Split
    position: int
    ids: Integers

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def population(self) -> Population:
        """The population that the clients are drawn from."""
        return TRAINING if self.split is Split.TRAIN else LATER

    def generator(self, stream: Stream) -> np.random.Generator:
        """A fresh generator: the same for the same stream, however often and in whatever order it is asked for."""
        return _generator(self.seed, self.split, self.position, stream)


def later_clients(clients: int) -> int:
    """How many clients application_test gets beside `clients` in application_train."""
    return round(clients * TEST_SHARE)


def chunks(clients: int, seed: int) -> Iterator[Chunk]:
    """The chunks of application_train, then those of application_test, identifiers ascending within each."""
    later = _is_later(clients, seed)
    for split, members in ((Split.TRAIN, ~later), (Split.TEST, later)):
        ids = FIRST_CLIENT + np.flatnonzero(members).astype(np.int64)
        for position, start in enumerate(range(0, len(ids), CHUNK_CLIENTS)):
            yield Chunk(seed, split, position, ids[start : start + CHUNK_CLIENTS])


def _is_later(clients: int, seed: int) -> Booleans:
    """Which identifiers belong to application_test: a random subset, as in Kaggle's files."""
    extra = later_clients(clients)
    chosen = _generator(seed, _IDENTIFIERS).choice(clients + extra, size=extra, replace=False)
    later = np.zeros(clients + extra, dtype=np.bool_)
    later[chosen] = True
    return later


def _generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of one stream; keys begin with the split, or with `_IDENTIFIERS`, which is no split."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
