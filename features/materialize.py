"""Rolls up the histories of a data folder for all clients, into the feature store or a Parquet file.

A store is replaced as a whole at the end: whoever is killed before leaves the old one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.errors import FileError, StoreError
from features.files import CsvLayout, open_table
from features.history_files import SUFFIXES, HistoryFolder, names_in, roll_up_folder
from features.portfolio import Portfolio
from features.store import INPUTS, KEY, SQLITE, EntryFormat, connected, open_store, redis_faults
from jobs.commandline import Progress
from jobs.output import flush_folder, locked, reason_of, remove_unfinished, replaced, scratch_of

if TYPE_CHECKING:
    from redis import Redis

_AT_ONCE = 1_000
"""Entries that are sent to Redis together."""
_REDIS_SECONDS = 30.0
"""Time that Redis has for one answer."""
_LOCK_SECONDS = 5.0
"""After so long without a sign of life a writer holds nobody up any more."""
_UNFINISHED_SECONDS = 86_400
"""After so long Redis forgets entries of a command that was killed."""

_Item = TypeVar("_Item")
Pairs = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class RolledUp:
    """The roll-ups of all clients of a data folder: row i of the matrix, shape (n, roll-ups), is of client i."""

    clients: Sequence[str]
    matrix: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a data folder as they are now.

    Attributes
    ----------
    newest : when the oldest of them was written last: what happened since may be missing
    fingerprint : differs where a file, the declaration or the moment does
    """

    newest: datetime
    fingerprint: bytes

    @classmethod
    def of(cls, data: Path, portfolio: Portfolio, as_of: datetime | None) -> Self:
        """The inputs of a folder; FileError if it has no file of histories."""
        folder = HistoryFolder.open(data, portfolio)
        paths = [table.path for table in folder.tables.values()]
        if not paths:
            raise FileError(f"{data}: no file of histories: {', '.join(one.file for one in folder.histories.tables)}")
        found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        newest = datetime.fromtimestamp(min(written for *_, written in found) / 1e9, UTC)
        told = repr((folder.histories.digest, as_of, found)).encode()
        return cls(newest, hashlib.sha256(told).digest())


def roll_up_clients(data: Path, portfolio: Portfolio, as_of: datetime, progress: Progress) -> RolledUp:
    """Roll up the histories of every client in the folder `data`, as of a moment.

    Those are the clients with a row in some table, and with an application: their history is known to be empty.
    """
    clients = _clients(data, portfolio)
    days = np.full(len(clients), as_of.timestamp() // 86_400)
    matrix = roll_up_folder(data, portfolio, clients, days, progress=progress)
    return RolledUp([str(client) for client in clients.tolist()], matrix)


def _clients(data: Path, portfolio: Portfolio) -> NDArray[Any]:
    declared, found = portfolio.declared, HistoryFolder.open(data, portfolio).clients()
    if declared.identity is None:
        return found
    for name in filter(None, (declared.files.train, declared.files.later)):
        for path in (data / f"{name}{suffix}" for suffix in SUFFIXES):
            if path.exists():
                table = open_table(path, known=[declared.identity.column], layout=CsvLayout.of(portfolio))
                found = np.union1d(found, names_in(table, declared.identity.column, whole=found.dtype != object))
    return found


def materialize(address: str, portfolio: Portfolio, rolled_up: RolledUp, as_of: datetime, inputs: bytes = b"") -> None:
    """Replace the entries of these clients in a feature store, and keep those of the others.

    `inputs` tells what they were made of. StoreError leaves the store as it was.
    """
    if portfolio.histories is None:
        raise StoreError(f"the portfolio {portfolio.name} declares no histories")
    entries = EntryFormat(portfolio.histories).packed(as_of.timestamp(), rolled_up.matrix)
    pairs = chain([(INPUTS, inputs)], zip(rolled_up.clients, entries, strict=True))
    if address.startswith(SQLITE):
        _write_file(Path(address.removeprefix(SQLITE)), pairs)
    else:
        with redis_faults():
            _write_redis(connected(address, _REDIS_SECONDS), pairs)


def is_filled_with(address: str, portfolio: Portfolio, inputs: Inputs) -> bool:
    """Whether a feature store was filled with these inputs last; StoreError for an address that is none."""
    if portfolio.histories is None:
        raise StoreError(f"the portfolio {portfolio.name} declares no histories")
    with closing(open_store(address, portfolio.histories, seconds=_REDIS_SECONDS)) as store:
        return store.filled_with() == inputs.fingerprint


def _write_file(path: Path, pairs: Pairs) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), wait=False) as ours:
            if not ours:
                raise StoreError(f"{path}: another process writes this feature store")
            remove_unfinished(path)
            _replace_file(path, pairs)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({reason_of(error)})") from None
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be written ({error})") from None


def _replace_file(path: Path, pairs: Pairs) -> None:
    scratch = scratch_of(path)
    try:
        if path.exists():
            shutil.copyfile(path, scratch)
        with closing(sqlite3.connect(scratch, isolation_level=None)) as connection:
            # Nobody reads it before it is whole: it needs no journal.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            connection.execute("CREATE TABLE IF NOT EXISTS entries (client TEXT PRIMARY KEY, entry BLOB) WITHOUT ROWID")
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", pairs)
            connection.execute("COMMIT")
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
        flush_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _write_redis(client: Redis, pairs: Pairs) -> None:
    lock = client.lock(f"{KEY}:lock", timeout=_LOCK_SECONDS, blocking_timeout=_LOCK_SECONDS + 1)
    if not lock.acquire():  # waited for, since a writer that was killed leaves its lock behind
        raise StoreError("another process writes this feature store")
    try:
        _replace_hash(client, pairs, lock.reacquire)
    finally:
        with suppress(Exception):  # it ends by itself
            lock.release()


def _replace_hash(client: Redis, pairs: Pairs, go_on: Callable[[], object]) -> None:
    """Replace the hash; `go_on` is called in between, so that nobody else begins."""
    following = f"{KEY}:{secrets.token_hex(8)}"
    try:
        written = set[bytes]()
        for batch in _batches(pairs, _AT_ONCE):
            client.hset(following, mapping=dict(batch))
            client.expire(following, _UNFINISHED_SECONDS)
            written.update(name.encode() for name, _ in batch)
            go_on()
        _keep_others(client, following, written, go_on)
        with client.pipeline(transaction=True) as both:
            if client.exists(KEY):
                # Renamed and unlinked, since to replace it would hold up everybody while Redis frees it.
                both.rename(KEY, f"{following}:old")
                both.unlink(f"{following}:old")
            if client.exists(following):
                both.rename(following, KEY)
                both.persist(KEY)
            both.execute()
    except BaseException:
        with suppress(Exception):
            client.unlink(following)
        raise


def _keep_others(client: Redis, following: str, written: set[bytes], go_on: Callable[[], object]) -> None:
    """Copy the entries of the clients that are not written anew."""
    for batch in _batches(client.hscan_iter(KEY, count=_AT_ONCE), _AT_ONCE):
        others = {name: entry for name, entry in batch if name not in written}
        if others:
            client.hset(following, mapping=others)
        go_on()


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch


def export(output: Path, portfolio: Portfolio, rolled_up: RolledUp, as_of: datetime) -> None:
    """Write the roll-ups as Parquet: the entity, `event_timestamp`, and a column for each roll-up."""
    import pyarrow as pa
    from pyarrow import parquet

    identity, histories = portfolio.declared.identity, portfolio.histories
    if identity is None or histories is None:
        raise StoreError(f"the portfolio {portfolio.name} declares no histories")
    clients = pa.array(rolled_up.clients, pa.string())
    moment = pa.scalar(as_of.astimezone(UTC), pa.timestamp("us", "UTC"))
    columns = {
        identity.column: clients.cast(pa.int64()) if identity.kind == "whole" else clients,
        "event_timestamp": pa.repeat(moment, len(clients)),
    }
    for column, values in zip(histories.columns, rolled_up.matrix.T, strict=True):
        columns[column.name] = pa.array(np.ascontiguousarray(values), from_pandas=True)
    try:
        with replaced(output) as file:
            parquet.write_table(pa.table(columns), file)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written ({error.strerror})") from None
