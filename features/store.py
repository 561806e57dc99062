"""The feature store: each client's roll-ups as of a moment, in SQLite for one machine or in Redis for many.

The entity is the client, the feature view all roll-ups of a declaration. An entry is one blob: the digest of the
declaration, the moment and the vector. A store is replaced as a whole: a reader sees the old one or the new one.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from features.errors import StoreDownError, StoreError
from features.histories import Histories
from jobs.destination import without_secrets

if TYPE_CHECKING:
    import sqlite3

    from redis import Redis

STORE_VARIABLE = "FEATURE_STORE"
"""The environment variable with the address of the feature store."""
SQLITE, REDIS = "sqlite:///", ("redis://", "rediss://", "unix://")
KEY = "credit-scoring:features"
"""The hash of Redis that holds the entries."""

INPUTS = ""
"""In the place of a client: the entry that tells what the store was filled with."""
_DAMAGED = "an entry of the feature store is damaged"
_HEADER = struct.Struct("<16sd")
_VECTOR = np.dtype("<f8")
_SELECT = "SELECT entry FROM entries WHERE client = ?"
_FORM = f"{SQLITE}PATH, or an address such as redis://HOST:PORT/0"


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


class EntryFormat:
    """Packs and reads the entries of one declaration of histories."""

    def __init__(self, histories: Histories) -> None:
        self._digest = bytes.fromhex(histories.digest)[:16]
        self._size = _HEADER.size + len(histories.columns) * _VECTOR.itemsize

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


class FeatureStore(ABC):
    """Looks up the entries of clients. One thread may use it."""

    def __init__(self, entries: EntryFormat) -> None:
        self._entries = entries

    def look_up(self, client_id: str) -> Entry | None:
        """The entry of a client, None if there is none; StoreDownError if the store does not answer in time."""
        found = self._blob(client_id)
        return None if found is None else self._entries.read(found[0])

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


def absolute_address(address: str) -> str:
    """The address of a store, with the absolute path of a file; StoreError for an address of another kind.

    >>> absolute_address("sqlite:////var/lib/features.sqlite")
    'sqlite:////var/lib/features.sqlite'
    """
    if address.startswith(SQLITE):
        return f"{SQLITE}{Path(address.removeprefix(SQLITE)).absolute()}"
    connected(address, 1.0)
    return address


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

    def _blob(self, client_id: str) -> tuple[object] | None:
        import sqlite3  # here and below: most services have no such store

        try:
            found = self._path.stat()
            if self._connection is None or self._seen != (found.st_dev, found.st_ino):
                self._open((found.st_dev, found.st_ino))
            if self._connection is None:
                raise StoreDownError("the feature store is closed")
            found_row: tuple[object] | None = self._connection.execute(_SELECT, (client_id,)).fetchone()
        except (OSError, sqlite3.Error, UnicodeEncodeError) as error:
            self._seen = None
            raise StoreDownError(f"the feature store cannot be read ({type(error).__name__})") from None
        return found_row

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
