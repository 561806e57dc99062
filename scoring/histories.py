"""The histories of a batch job: rows state their roll-ups, or the feature store has those of their clients.

The same rules hold as in the service. A store that is down ends the job, which can be started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.histories import Histories
from features.portfolio import Portfolio
from features.store import Entries, FeatureStore, HistorySource, absolute_address, oldest_used, open_store
from features.transformer import Columns
from jobs.destination import without_secrets
from scoring.errors import BatchError

HISTORY = "history"
"""The column of the decisions that says where the roll-ups come from."""

_SOURCES = tuple(HistorySource)
_CODE = {source: code for code, source in enumerate(_SOURCES)}
_SECONDS = 10.0
"""Nobody waits for a single answer of a batch job, so that a slow store need not end it."""


@dataclass(frozen=True, slots=True)
class JobHistories:
    """Where a job finds the roll-ups that its rows do not state.

    Attributes
    ----------
    store : address of the feature store, which may hold a password; None if there is none
    ttl_days : an entry that was older when the job began is not used
    version : that of the store when the job was planned
    """

    store: str | None = None
    ttl_days: float | None = None
    version: str | None = None

    @classmethod
    def at(cls, store: str, histories: Histories, ttl_days: float) -> Self:
        """Those of the feature store at an address; StoreError for a wrong one, or a store that is down."""
        address = absolute_address(store)
        with closing(open_store(address, histories, seconds=_SECONDS)) as opened:
            return cls(address, ttl_days, opened.version())

    @property
    def planned(self) -> Self:
        """What the plan says of them, which holds no password."""
        return self if self.store is None else replace(self, store=without_secrets(self.store))

    def difference(self, other: JobHistories) -> str:
        """What the other ones, which are not the same, say otherwise, in a few words."""
        if other.store != self.store:
            return f"another feature store, {other.store}" if other.store else "no feature store"
        if other.ttl_days != self.ttl_days:
            return f"--ttl-days {other.ttl_days:g}, not {self.ttl_days:g}"
        return "another state of the feature store"

    @contextmanager
    def opened(self, portfolio: Portfolio, moment: float) -> Iterator[HistoryFiller]:
        """Fills the roll-ups of applications during the block; `moment` is when the job began, seconds since 1970."""
        if self.store is None or self.ttl_days is None or portfolio.histories is None:
            yield HistoryFiller(self)
            return
        oldest = oldest_used(moment, self.ttl_days)
        with closing(open_store(self.store, portfolio.histories, seconds=_SECONDS)) as store:
            yield HistoryFiller(self, store, oldest)


class HistoryFiller:
    """Fills the roll-ups of applications, from an open store if there is one."""

    def __init__(self, histories: JobHistories, store: FeatureStore | None = None, oldest: float = 0.0) -> None:
        self._version = histories.version
        self._store = store
        self._oldest = oldest

    def fill(self, columns: Columns, identifiers: pa.ChunkedArray[Any], rows: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Write the roll-ups of the rows `rows` that state none; returns a code of each row's source, shape (n,).

        StoreDownError if the store does not answer; BatchError if it has changed since the job was planned.
        """
        rolled_up = columns.numbers[:, -len(columns.schema.rolled_up) :]
        stated = ~np.isnan(rolled_up).all(axis=1)
        sources = np.where(stated, _CODE[HistorySource.REQUEST], _CODE[HistorySource.MISSING]).astype(np.int8)
        sought = np.flatnonzero(rows & ~stated & identifiers.is_valid().to_numpy())
        if self._store is None or not len(sought):
            return sources
        entries = self._looked_up(self._store, identifiers.take(pa.array(sought)))
        known = ~np.isnan(entries.as_of)
        used = known & entries.declared & (entries.as_of >= self._oldest)
        rolled_up[sought[used]] = entries.values[used]
        sources[sought[known]] = _CODE[HistorySource.STALE]
        sources[sought[used]] = _CODE[HistorySource.STORE]
        return sources

    def _looked_up(self, store: FeatureStore, identifiers: pa.ChunkedArray[Any]) -> Entries:
        entries = store.look_up_many(identifiers.cast(pa.string()).to_pylist())
        # Looked at afterwards: a store that is replaced in between has another version then.
        if store.version() != self._version:
            raise BatchError(
                "the feature store has changed since the job was begun; begin it anew, with another output"
            )
        return entries


def source_column(sources: NDArray[np.int8]) -> pa.Array[Any]:
    """The column `history` of rows with these codes."""
    return pa.DictionaryArray.from_arrays(pa.array(sources), pa.array(map(str, _SOURCES))).dictionary_decode()


def source_counts(sources: NDArray[np.int8]) -> dict[str, int]:
    """How many rows come from each source."""
    counts = np.bincount(sources, minlength=len(_SOURCES)).tolist()
    return {str(source): count for source, count in zip(_SOURCES, counts, strict=True) if count}
