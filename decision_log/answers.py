"""The answers that are kept for requests with an Idempotency-Key, in one SQLite file beside the decision log.

DIR/idempotency.sqlite    a row for each key: BLAKE2b of caller and key, SHA-256 of path and body, the answer, its end

The workers that see the folder share the file. A key whose request is in flight is held by a lease, so that a worker
that is killed does not hold it for ever.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Self

from decision_log.errors import AnswersError
from decision_log.writer import OWNER_ONLY

FILE = "idempotency.sqlite"
_KEY_BYTES, _OWNER_BYTES = 32, 16
_SWEPT_ROWS = 8
"""Rows that are removed with each new key: more than one, so that old rows never gain on the sweep."""
_WAIT_SECONDS = 2.0
"""For another worker that is writing."""
_NETWORKS = ("9p", "afs", "ceph", "cifs", "fuse", "glusterfs", "lustre", "nfs", "smb", "virtiofs")
"""Beginnings of the names of file systems over a network, or of those that may be."""
_MOUNTS = Path("/proc/self/mountinfo")
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, request BLOB NOT NULL, owner BLOB, answer BLOB, ends REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_end ON answers (ends);
"""


class Standing(Enum):
    """Where a key stands that has no answer for this request."""

    FREE = auto()
    """The caller has it now, and must keep an answer or release it."""
    IN_FLIGHT = auto()
    OTHER_REQUEST = auto()
    """It was used for another path or body."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key of one caller and the request that it stands for, as hashes.

    Attributes
    ----------
    key, request : hashes of caller and key, and of path and body
    owner : random bytes that tell this attempt from all others
    """

    key: bytes
    request: bytes
    owner: bytes

    @classmethod
    def of(cls, caller: str, key: str, path: str, body: bytes) -> Self:
        """Make the claim of a request.

        >>> first, again = (Claim.of("shop", "k-1", "/predict", b"{}") for _ in range(2))
        >>> first.key == again.key, first.owner == again.owner, first.key == Claim.of("", "k-1", "/predict", b"{}").key
        (True, False, False)
        """
        # Names of keys and paths hold no line end, so that no two pairs make the same text.
        named = blake2b(f"{caller}\n{key}".encode(), digest_size=_KEY_BYTES, person=b"idempotency").digest()
        request = sha256(path.encode() + b"\n")
        request.update(body)
        return cls(named, request.digest(), os.urandom(_OWNER_BYTES))


class KeptAnswers:
    """The answers kept in a folder; one thread may use it. AnswersError if the file cannot be read or written.

    Parameters
    ----------
    lease_seconds : how long a request may be in flight
    seconds : how long an answer is kept
    clock : seconds since 1970, which a restart does not set back
    """

    def __init__(self, folder: Path, *, lease_seconds: float, seconds: float, clock: Callable[[], float]) -> None:
        self._path = folder / FILE
        self._lease_seconds = lease_seconds
        self._seconds = seconds
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._made: os.stat_result | None = None

    def claim(self, claim: Claim) -> bytes | Standing:
        """Return the answer that is kept for the request; without one, take the key if it is free."""
        now = self._clock()
        with self._writing() as connection:
            row = connection.execute("SELECT request, answer, ends FROM answers WHERE key = ?", (claim.key,)).fetchone()
            if row is not None and row[2] > now:
                return _standing(claim, *row[:2])
            connection.execute(
                "INSERT OR REPLACE INTO answers (key, request, owner, ends) VALUES (?, ?, ?, ?)",
                (claim.key, claim.request, claim.owner, now + self._lease_seconds),
            )
            _sweep(connection, now, _SWEPT_ROWS)
        return Standing.FREE

    def keep(self, claim: Claim, answer: bytes) -> None:
        """Keep the answer, unless the lease has ended and another request took the key."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE answers SET answer = ?, owner = NULL, ends = ? WHERE key = ? AND owner = ?",
                (answer, self._clock() + self._seconds, claim.key, claim.owner),
            )

    def release(self, claim: Claim) -> None:
        """Free the key, which has no answer."""
        with self._writing() as connection:
            connection.execute("DELETE FROM answers WHERE key = ? AND owner = ?", (claim.key, claim.owner))

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a block that writes whole or not at all."""
        try:
            connection = self._opened()
            # The write lock is taken first: two workers must not both read that a key is free.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise AnswersError(f"{self._path}: cannot be used ({_reason(error)})") from None

    def _opened(self) -> sqlite3.Connection:
        # Workers that went on with a removed file would each know other keys than the rest.
        if self._connection is None or not self._is_in_place():
            self.close()
            self._connection, self._made = _connected(self._path), self._path.stat()
        return self._connection

    def _is_in_place(self) -> bool:
        try:
            return self._made is not None and os.path.samestat(self._path.stat(), self._made)
        except FileNotFoundError:
            return False


def _standing(claim: Claim, request: bytes, answer: bytes | None) -> bytes | Standing:
    if request != claim.request:
        return Standing.OTHER_REQUEST
    return Standing.IN_FLIGHT if answer is None else answer


def _sweep(connection: sqlite3.Connection, now: float, rows: int) -> int:
    """Remove some rows that have ended, and return how many."""
    chosen = "SELECT rowid FROM answers WHERE ends <= ? LIMIT ?"
    return connection.execute(f"DELETE FROM answers WHERE rowid IN ({chosen})", (now, rows)).rowcount  # noqa: S608


def _connected(path: Path) -> sqlite3.Connection:
    # SQLite gives its other files the rights of this one, which the umask must not widen.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_ONLY)
    try:
        os.fchmod(descriptor, OWNER_ONLY)
    finally:
        os.close(descriptor)
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # WAL with NORMAL asks the disk at checkpoints only, as the decision log does not wait for it either. It needs
        # memory that all workers share, which machines on a network do not have.
        mounts = _MOUNTS.read_text() if _MOUNTS.exists() else ""
        mode = "DELETE" if is_on_network(path.resolve(), mounts) else "WAL"
        for pragma in (f"journal_mode = {mode}", "synchronous = NORMAL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(_TABLE)
    except (sqlite3.Error, OSError):
        connection.close()
        raise
    return connection


def is_on_network(path: Path, mounts: str) -> bool:
    """Whether a path is on a file system that machines share, by the lines of /proc/self/mountinfo.

    >>> mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw" + chr(10) + "2 1 0:9 / /var/log rw shared:1 - nfs4 server:/ rw"
    >>> [is_on_network(Path(name), mounts) for name in ("/var/log/a", "/var/logs/a", "/var")]
    [True, False, False]
    """
    kind, longest = "", -1
    for line in mounts.splitlines():
        # Optional fields end at a lone dash; blanks in a path are written as \040.
        mount, _, rest = line.partition(" - ")
        place = Path(mount.split()[4].replace("\\040", " "))
        if path.is_relative_to(place) and len(place.parts) >= longest:
            kind, longest = rest.split()[0], len(place.parts)
    return kind.startswith(_NETWORKS)


def remove_ended(folder: Path, now: float) -> int:
    """Remove all answers that have ended, in small steps, and return how many; AnswersError if that fails."""
    path, removed = folder / FILE, 0
    if not path.is_file():
        return removed
    try:
        with closing(_connected(path)) as connection:
            while step := _sweep(connection, now, _SWEPT_ROWS):
                removed += step
    except (sqlite3.Error, OSError) as error:
        raise AnswersError(f"{path}: cannot be used ({_reason(error)})") from None
    return removed


def _reason(error: Exception) -> str:
    """Return SQLite's or the system's name of an error, which quotes no content."""
    name = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None)
    return str(name or type(error).__name__)
