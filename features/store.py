"""The feature store: each client's roll-ups as of a moment, in SQLite for one machine or in Redis for many.

The entity is the client, the feature view all roll-ups of a declaration. An entry is one blob: the digest of the
declaration, the moment and the vector. A store is replaced as a whole: a reader sees the old one or the new one.
"""

from __future__ import annotations

import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from features.errors import StoreDownError, StoreError
from features.histories import Histories
from jobs.destination import without_secrets
from jobs.errors import SecretError
from jobs.settings import stated_secret

if TYPE_CHECKING:
    import sqlite3

    from redis import Redis

STORE_VARIABLE = "FEATURE_STORE"
"""The environment variable with the address of the feature store."""
STORE_FILE_VARIABLE = "FEATURE_STORE_FILE"
"""The environment variable that names a file with the address instead."""
SQLITE, REDIS = "sqlite:///", ("redis://", "rediss://", "unix://")
KEY = "credit-scoring:features"
"""The hash of Redis that holds the entries."""

INPUTS = ""
"""In the place of a client: the entry that tells what the store was filled with."""
_DAMAGED = "an entry of the feature store is damaged"
_HEADER = struct.Struct("<16sd")
_VECTOR = np.dtype("<f8")
_SELECT = "SELECT entry FROM entries WHERE client = ?"
_SELECT_MANY = "SELECT client, entry FROM entries WHERE client IN (SELECT value FROM json_each(?))"
_AT_ONCE = 8_192
"""Clients that are looked up together: while Redis answers, it answers nobody else."""
_DAY = 86_400.0
_FORM = f"{SQLITE}PATH, or an address such as redis://HOST:PORT/0"


class HistorySource(StrEnum):
    """Where the roll-ups of a client's history come from, or why there are none."""

    REQUEST = "request"
    """From the rows in the request."""
    STORE = "store"
    """From the feature store."""
    MISSING = "missing"
    """The store knows nothing of the client, or there is no store."""
    STALE = "stale"
    """What the store holds is too old, or of another declaration."""
    UNAVAILABLE = "unavailable"
    """The store is down, or did not answer in time."""

    @property
    def known(self) -> bool:
        """Whether there are roll-ups."""
        return self in (HistorySource.REQUEST, HistorySource.STORE)


def oldest_used(now: float, ttl_days: float) -> float:
    """The moment before which an entry is stale, seconds since 1970.

    >>> oldest_used(864_000.0, 9)
    86400.0
    """
    return now - ttl_days * _DAY


@dataclass(frozen=True, slots=True)
class Entry:
    """The roll-ups of one client.

    Attributes
    ----------
    as_of : the moment for which they were computed, seconds since 1970
    values : float64, one for each roll-up, NaN where missing; None if they are of another declaration
    """

    as_of: float
    values: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """The roll-ups of several clients.

    Attributes
    ----------
    as_of : as in `Entry`, shape (n,); NaN where a client has no entry
    declared : whether each is of this declaration, shape (n,)
    values : shape (n, roll-ups); NaN where missing or not of this declaration
    """

    as_of: NDArray[np.float64]
    declared: NDArray[np.bool_]
    values: NDArray[np.float64]


class EntryFormat:
    """Packs and reads the entries of one declaration of histories."""

    def __init__(self, histories: Histories) -> None:
        self._digest = bytes.fromhex(histories.digest)[:16]
        width = len(histories.columns)
        self._size = _HEADER.size + width * _VECTOR.itemsize
        self._record = np.dtype([("digest", "V16"), ("as_of", "<f8"), ("values", _VECTOR, (width,))])

    def packed(self, as_of: float, matrix: NDArray[np.float64]) -> Iterator[bytes]:
        """The entries of the rows of a matrix, shape (clients, roll-ups)."""
        header, rows = _HEADER.pack(self._digest, as_of), matrix.astype(_VECTOR).tobytes()
        size = self._size - _HEADER.size
        for at in range(0, len(matrix) * size, size):
            yield header + rows[at : at + size]

    def read(self, blob: object) -> Entry:
        """The entry in a blob; StoreDownError if it is none."""
        if not isinstance(blob, bytes) or len(blob) < _HEADER.size:
            raise StoreDownError(_DAMAGED)
        digest, as_of = _HEADER.unpack_from(blob)
        if digest != self._digest:
            return Entry(as_of, None)
        if len(blob) != self._size:
            raise StoreDownError(_DAMAGED)
        return Entry(as_of, np.frombuffer(blob, _VECTOR, offset=_HEADER.size))

    def read_many(self, client_ids: Sequence[str], blobs: Mapping[str, object]) -> Entries:
        """The entries of the clients in the blobs that were found; StoreDownError if one is none."""
        as_of, declared = np.full(len(client_ids), np.nan), np.zeros(len(client_ids), dtype=np.bool_)
        values = np.full((len(client_ids), *self._record["values"].shape), np.nan)
        rows, whole = list[int](), list[bytes]()
        for row, client_id in enumerate(client_ids):
            if client_id not in blobs:
                continue
            blob = blobs[client_id]
            if isinstance(blob, bytes) and len(blob) == self._size:
                rows.append(row)
                whole.append(blob)
            else:
                as_of[row] = self.read(blob).as_of
        records = np.frombuffer(b"".join(whole), self._record)
        as_of[rows], values[rows] = records["as_of"], records["values"]
        declared[rows] = records["digest"] == np.void(self._digest)
        values[~declared] = np.nan
        return Entries(as_of, declared, values)


class FeatureStore(ABC):
    """Looks up the entries of clients. One thread may use it."""

    def __init__(self, entries: EntryFormat) -> None:
        self._entries = entries

    def look_up(self, client_id: str) -> Entry | None:
        """The entry of a client, None if there is none; StoreDownError if the store does not answer in time."""
        found = self._blob(client_id)
        return None if found is None else self._entries.read(found[0])

    def look_up_many(self, client_ids: Sequence[str]) -> Entries:
        """The entries of clients, in their order; StoreDownError as in `look_up`."""
        blobs = dict[str, object]()
        for start in range(0, len(client_ids), _AT_ONCE):
            blobs.update(self._blobs(client_ids[start : start + _AT_ONCE]))
        return self._entries.read_many(client_ids, blobs)

    def version(self) -> str:
        """A name of what the store was filled with; "" if nobody has told. StoreDownError as in `look_up`."""
        found = self._blob(INPUTS)
        return found[0].hex() if found is not None and isinstance(found[0], bytes) else ""

    def filled_with(self) -> bytes | None:
        """What the store was filled with; None if it is not there, or nobody has told."""
        with suppress(StoreDownError):
            found = self._blob(INPUTS)
            if found is not None and isinstance(found[0], bytes):
                return found[0]
        return None

    @abstractmethod
    def _blob(self, client_id: str) -> tuple[object] | None:
        """The blob of a client in a tuple; None if there is none."""

    @abstractmethod
    def _blobs(self, client_ids: Sequence[str]) -> Mapping[str, object]:
        """The blobs of those clients that have one."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""


def absolute_address(address: str) -> str:
    """The address of a store, with the absolute path of a file; StoreError for an address of another kind.

    >>> absolute_address("sqlite:////var/lib/features.sqlite")
    'sqlite:////var/lib/features.sqlite'
    """
    if address.startswith(SQLITE):
        return f"{SQLITE}{Path(address.removeprefix(SQLITE)).absolute()}"
    connected(address, 1.0)
    return address


def stated_address(environment: Mapping[str, str]) -> str | None:
    """The address in FEATURE_STORE or in the file that FEATURE_STORE_FILE names; None if neither is set.

    StoreError, which never shows the address, if it is none. The path of a SQLite file becomes absolute; that in a
    file must be so already.
    """
    try:
        found = stated_secret(environment, STORE_VARIABLE)
    except SecretError as error:
        raise StoreError(str(error)) from None
    if found is None:
        return None
    address = _address(found.text)
    if address is None:
        raise StoreError(f"{found.place} is no feature store: write {_FORM}")
    # The workers of a Bento run in another folder than the command that serves it.
    if found.in_file and address.startswith(SQLITE) and not found.text.startswith(f"{SQLITE}/"):
        raise StoreError(f"{found.place} must have an absolute path: {SQLITE}/PATH")
    return address


def _address(text: str) -> str | None:
    """The absolute address that a text is; None if it is none."""
    if not text.isprintable():  # a library would drop a line break and go on
        return None
    try:
        return absolute_address(text)
    except StoreError:
        return None


def open_store(address: str, histories: Histories, *, seconds: float) -> FeatureStore:
    """The store at an address, which nothing is asked of yet; StoreError for an address of another kind.

    `seconds` is how long a look-up waits for another machine.
    """
    if address.startswith(SQLITE):
        return _SqliteStore(Path(address.removeprefix(SQLITE)), EntryFormat(histories))
    return _RedisStore(connected(address, seconds), EntryFormat(histories))


class _SqliteStore(FeatureStore):
    """Reads a file that is never written in place: another one takes its place, and is opened then."""

    def __init__(self, path: Path, entries: EntryFormat) -> None:
        super().__init__(entries)
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._seen = None

    def _blob(self, client_id: str) -> tuple[object] | None:
        found: Sequence[tuple[object]] = self._rows(_SELECT, client_id)
        return found[0] if found else None

    def _blobs(self, client_ids: Sequence[str]) -> Mapping[str, object]:
        return dict(self._rows(_SELECT_MANY, json.dumps(client_ids)))

    def _rows(self, query: str, value: str) -> list[Any]:
        import sqlite3  # here and below: most services have no such store

        try:
            found = self._path.stat()
            if self._connection is None or self._seen != (found.st_dev, found.st_ino):
                self._open((found.st_dev, found.st_ino))
            if self._connection is None:
                raise StoreDownError("the feature store is closed")
            return self._connection.execute(query, (value,)).fetchall()
        except (OSError, sqlite3.Error, UnicodeEncodeError) as error:
            self._seen = None
            raise StoreDownError(f"the feature store cannot be read ({type(error).__name__})") from None

    def _open(self, place: tuple[int, int]) -> None:
        import sqlite3

        if self._connection is not None:
            self._connection.close()
        # immutable: no locks, and nothing is written beside a file that may lie in a read-only folder.
        address = f"file:{quote(str(self._path.absolute()))}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(address, uri=True, isolation_level=None)
        self._seen = place


class _RedisStore(FeatureStore):
    def __init__(self, client: Redis, entries: EntryFormat) -> None:
        super().__init__(entries)
        self._client = client

    def _blob(self, client_id: str) -> tuple[object] | None:
        with redis_faults():
            found: Any = self._client.hget(KEY, client_id)
        return None if found is None else (found,)

    def _blobs(self, client_ids: Sequence[str]) -> Mapping[str, object]:
        with redis_faults():
            found: Any = self._client.hmget(KEY, client_ids)
        return {client_id: blob for client_id, blob in zip(client_ids, found, strict=True) if blob is not None}

    def close(self) -> None:
        self._client.close()


def connected(address: str, seconds: float) -> Redis:
    """A client of Redis, which has not connected yet; StoreError if the address is none."""
    if not address.startswith(REDIS):
        raise StoreError(f"{without_secrets(address)}: is no feature store: write {_FORM}")
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        # One attempt: whoever asks has an answer to give, and the next one asks again.
        return Redis.from_url(
            address, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
    except ValueError:
        raise StoreError(f"{without_secrets(address)}: is no address of Redis") from None


@contextmanager
def redis_faults() -> Iterator[None]:
    """Turn what the client of Redis raises into a StoreDownError, without the address."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreDownError(f"the feature store does not answer ({type(error).__name__})") from None
