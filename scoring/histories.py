"""The histories of a batch job: rows state their roll-ups, or the feature store has those of their clients.

The same rules hold as in the service. A store that is down ends the job, which can be started again. Where no history
is known the row is scored without, refused, or left to a model of the application alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.files import RowBatch
from features.histories import Histories
from features.portfolio import Portfolio
from features.store import Entries, FeatureStore, HistorySource, absolute_address, oldest_used, open_store
from features.transformer import Columns
from features.validation import RuleViolation
from jobs.destination import without_secrets
from scoring.errors import BatchError

HISTORY = "history"
"""The column of the decisions that says where the roll-ups come from."""

SCORE, REFUSE = "score", "refuse"
"""What becomes of a row without a known history, unless another model decides on it."""

_SOURCES = tuple(HistorySource)
_CODE = {source: code for code, source in enumerate(_SOURCES)}
_KNOWN = np.array([source.known for source in _SOURCES])
_RULES = {HistorySource.MISSING: "must be known", HistorySource.STALE: "must be up to date"}
_SECONDS = 10.0
"""Nobody waits for a single answer of a batch job, so that a slow store need not end it."""


@dataclass(frozen=True, slots=True)
class ApplicationOnly:
    """The model that decides where no history is known, as other processes find it.

    Attributes
    ----------
    model : name and version
    reference : tag in the BentoML store, or folder of an artefact; two machines may differ in it
    """

    model: str
    version: str
    digest: str
    reference: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class JobHistories:
    """Where a job finds the roll-ups that its rows do not state.

    Attributes
    ----------
    store : address of the feature store, which may hold a password; None if there is none
    ttl_days : an entry that was older when the job began is not used
    version : that of the store when the job was planned
    refuse : whether rows without a known history are rejected
    application_only : decides on them; None where they are rejected, or the job's model decides
    """

    store: str | None = None
    ttl_days: float | None = None
    version: str | None = None
    refuse: bool = False
    application_only: ApplicationOnly | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Those of a plan; TypeError for other values."""
        second = values.get("application_only")
        return cls(**{**values, "application_only": None if second is None else ApplicationOnly(**second)})

    @classmethod
    def at(cls, store: str, histories: Histories, ttl_days: float) -> Self:
        """Those of the feature store at an address; StoreError for a wrong one, or a store that is down."""
        address = absolute_address(store)
        with closing(open_store(address, histories, seconds=_SECONDS)) as opened:
            return cls(address, ttl_days, opened.version())

    @property
    def planned(self) -> Self:
        """What the plan says of them, which holds no password and no place of a model."""
        second = self.application_only and replace(self.application_only, reference="")
        return replace(self, store=self.store and without_secrets(self.store), application_only=second)

    @property
    def without(self) -> str:
        """What becomes of a row without a known history, as `--without-history` says it."""
        if self.application_only is not None:
            return self.application_only.model
        return REFUSE if self.refuse else SCORE

    def difference(self, other: JobHistories) -> str:
        """What the other ones, which are not the same, say otherwise, in a few words."""
        if other.store != self.store:
            return f"another feature store, {other.store}" if other.store else "no feature store"
        if other.ttl_days != self.ttl_days:
            return f"--ttl-days {other.ttl_days:g}, not {self.ttl_days:g}"
        if (other.refuse, other.application_only) != (self.refuse, self.application_only):
            return f"--without-history {other.without}, not {self.without}"
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


def unknown_rows(sources: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which rows with these codes have no known history, shape (n,)."""
    return np.asarray(~_KNOWN[sources])


def with_refusals(batch: RowBatch, sources: NDArray[np.int8], refused: NDArray[np.bool_]) -> RowBatch:
    """The batch with a broken rule in each row that is refused for want of a history."""
    found = {rule: np.flatnonzero(refused & (sources == _CODE[source])) for source, rule in _RULES.items()}
    broken = [RuleViolation(HISTORY, rule, rows) for rule, rows in found.items() if len(rows)]
    return replace(batch, violations=[*batch.violations, *broken])


def source_column(sources: NDArray[np.int8]) -> pa.Array[Any]:
    """The column `history` of rows with these codes."""
    return pa.DictionaryArray.from_arrays(pa.array(sources), pa.array(map(str, _SOURCES))).dictionary_decode()


def source_counts(sources: NDArray[np.int8]) -> dict[str, int]:
    """How many rows come from each source."""
    counts = np.bincount(sources, minlength=len(_SOURCES)).tolist()
    return {str(source): count for source, count in zip(_SOURCES, counts, strict=True) if count}
