"""The histories of clients: from the request or the feature store, or said to be missing.

What the store holds is never used if it is too old, or rolled up by another declaration. A setting says what happens
without a history. Answer, record and metrics say where the roll-ups came from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import local
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.errors import StoreDownError
from features.portfolio import Portfolio
from features.store import Entry, FeatureStore, HistorySource, oldest_used, open_store
from features.transformer import Columns
from serving.problems import HistoryUnavailable, Invalid
from serving.request_metrics import Traffic
from serving.schemas import BatchRows
from serving.settings import HistorySettings, WithoutHistory

if TYPE_CHECKING:
    from features.request import HistoryReader, HistoryRequest

_DAY = 86_400.0
_DOWN_AFTER = 3
"""Look-ups in a row that fail before the store is taken to be down: one late answer is no fault."""
_RETRY_SECONDS = 1.0
"""Seconds for which a store that is down is not asked again, so that not every caller waits for it."""

_AT_ONCE = 100
"""Clients of a batch that are looked up together, in the time that the store has to answer."""

_SAID = {
    HistorySource.MISSING: "No history of the client is known.",
    HistorySource.STALE: "The history of the client is out of date.",
}

_Found = tuple[NDArray[np.float64] | None, HistorySource]
_UNAVAILABLE: _Found = (None, HistorySource.UNAVAILABLE)


class ClientHistories:
    """Finds the roll-ups of clients in one worker.

    Parameters
    ----------
    portfolio : declares the histories
    reader : reads those of requests
    address : of the feature store; None if there is none
    retry_after : seconds after which a refused request may come again
    clock : seconds since 1970
    """

    def __init__(
        self,
        portfolio: Portfolio,
        reader: HistoryReader,
        settings: HistorySettings,
        address: str | None,
        traffic: Traffic,
        *,
        retry_after: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._schema, self._day = portfolio.schema, portfolio.declared.decided_on
        self._reader = reader
        self._settings = settings
        self._open = None if address is None else _opener(address, portfolio, settings)
        self._retry_after = retry_after
        self._clock = clock
        self._counts = {source: traffic.history(source) for source in HistorySource}
        self._down_until, self._failures, self._in_a_row = 0.0, 0, 0
        self._of_thread = local()
        # A file answers at once. Another machine may not, and the event loop must not wait for it.
        is_remote = address is not None and not address.startswith("sqlite:")
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="feature-store") if is_remote else None

    @property
    def waits(self) -> bool:
        """Whether a look-up waits for another machine."""
        return self._aside is not None

    async def fill(self, client_id: str | None, history: HistoryRequest | None, columns: Columns) -> HistorySource:
        """Write the roll-ups of the client into the one application, and return where they come from.

        Invalid or HistoryUnavailable if there are none and the settings refuse to decide without.
        """
        if history is not None or client_id is None or self._aside is None:
            return self.fill_now(client_id, history, columns)
        if self._is_down():
            return self._filled(columns, 0, _UNAVAILABLE)
        looking = asyncio.get_running_loop().run_in_executor(self._aside, self._answered, [client_id], self._failures)
        try:
            await asyncio.wait([looking], timeout=self._settings.milliseconds / 1000)
            found = looking.result()[0] if looking.done() else _UNAVAILABLE
        finally:
            # One that still waits for a thread asks nothing any more.
            looking.cancel()
        return self._filled(columns, 0, found)

    def fill_now(self, client_id: str | None, history: HistoryRequest | None, columns: Columns) -> HistorySource:
        """What `fill` does, on the calling thread."""
        if history is not None:
            values = self._reader.roll_up(history, self._day_of(columns))
            return self._filled(columns, 0, (values, HistorySource.REQUEST))
        return self._filled(columns, 0, self._looked_up([client_id])[0])

    def filled(self, rows: BatchRows, columns: Columns) -> tuple[BatchRows, Columns]:
        """The applications of a batch with the roll-ups of their clients, looked up on the calling thread.

        A row of a table may state its roll-ups itself. What is not decided on without a history is among the rejected.
        HistoryUnavailable if the store is down and the settings refuse to decide without.
        """
        stated = np.any(~np.isnan(columns.numbers[:, -len(self._schema.rolled_up) :]), axis=1)
        sources: list[HistorySource] = []
        kept, rejected = [], dict(rows.rejected)
        looked_up = iter(self._looked_up([
            rows.client_ids[place] for row, place in enumerate(rows.positions) if not stated[row]
        ]))  # fmt: skip
        for row, place in enumerate(rows.positions):
            found = (None, HistorySource.REQUEST) if stated[row] else next(looked_up)
            try:
                sources.append(self._filled(columns, row, found))
                kept.append(row)
            except Invalid as refusal:
                rejected[place] = list(refusal.errors)
        if len(kept) < len(rows.positions):
            columns = columns.take(np.array(kept, dtype=np.intp))
        positions = [rows.positions[row] for row in kept]
        return replace(rows, positions=positions, rejected=rejected, histories=sources), columns

    def close(self) -> None:
        """Look nothing up any more."""
        if self._aside is not None:
            self._aside.shutdown(wait=False, cancel_futures=True)

    def _filled(self, columns: Columns, row: int, found: _Found) -> HistorySource:
        values, source = found
        self._counts[source].inc()
        if values is not None:
            columns.numbers[row, -len(values) :] = values
        elif not source.known and self._settings.without is WithoutHistory.REFUSE:
            if source is HistorySource.UNAVAILABLE:
                raise HistoryUnavailable.after(self._retry_after)
            raise Invalid.because([{"loc": ["history"], "msg": _SAID[source]}])
        return source

    def _looked_up(self, client_ids: Sequence[str | None]) -> list[_Found]:
        """What the store has of each client, asked on the calling thread, some at once."""
        found = list[_Found]()
        for first in range(0, len(client_ids), _AT_ONCE):
            some = client_ids[first : first + _AT_ONCE]
            named = [one for one in some if one is not None]
            if self._open is None or not named:
                found += [(None, HistorySource.MISSING)] * len(some)
                continue
            entries = iter([_UNAVAILABLE] * len(named) if self._is_down() else self._answered(named, self._failures))
            found += [(None, HistorySource.MISSING) if one is None else next(entries) for one in some]
        return found

    def _is_down(self) -> bool:
        """Whether the store has just failed again and again. Then one caller asks it, and the others go on without."""
        now, until = self._clock(), self._down_until
        if now < until:
            return True
        if until:
            self._down_until = now + _RETRY_SECONDS
        return False

    def _answered(self, client_ids: Sequence[str], failures: int) -> list[_Found]:
        """What the store has of clients; nothing is asked if it has failed since there were so many failures."""
        if failures != self._failures:
            return [_UNAVAILABLE] * len(client_ids)
        try:
            entries = _entries(self._store(), client_ids)
        except StoreDownError:
            self._failures, self._in_a_row = self._failures + 1, self._in_a_row + 1
            if self._in_a_row >= _DOWN_AFTER:
                self._down_until = self._clock() + _RETRY_SECONDS
            return [_UNAVAILABLE] * len(client_ids)
        self._down_until, self._in_a_row = 0.0, 0
        return [self._judged(entry) for entry in entries]

    def _judged(self, entry: Entry | None) -> _Found:
        if entry is None:
            return None, HistorySource.MISSING
        if entry.values is None or entry.as_of < oldest_used(self._clock(), self._settings.ttl_days):
            return None, HistorySource.STALE
        return entry.values, HistorySource.STORE

    def _store(self) -> FeatureStore:
        """The store of this thread: a connection of SQLite belongs to one."""
        if self._open is None:
            raise StoreDownError("there is no feature store")
        found: FeatureStore | None = getattr(self._of_thread, "store", None)
        if found is None:
            found = self._of_thread.store = self._open()
        return found

    def _day_of(self, columns: Columns) -> float:
        """The day of the application, since 1970-01-01: the stated one, or else today."""
        stated = np.nan if self._day is None else float(columns.numbers[0, self._schema.position[self._day]])
        return self._clock() // _DAY if np.isnan(stated) else stated


def _entries(store: FeatureStore, client_ids: Sequence[str]) -> list[Entry | None]:
    if len(client_ids) == 1:
        return [store.look_up(client_ids[0])]
    found = store.look_up_many(client_ids)
    parts = zip(found.as_of.tolist(), found.declared, found.values, strict=True)
    return [None if np.isnan(as_of) else Entry(as_of, values if known else None) for as_of, known, values in parts]


def _opener(address: str, portfolio: Portfolio, settings: HistorySettings) -> Callable[[], FeatureStore]:
    histories = portfolio.histories
    if histories is None:
        raise ValueError("the portfolio declares no histories")
    return lambda: open_store(address, histories, seconds=settings.milliseconds / 1000)
