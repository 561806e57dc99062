"""Erasure: the records of one client are destroyed, and their hashes stay, so that all other records still prove.

An erased line of an open segment is `{"erased":HASH}`, padded to the length that the line had. A closed segment has no
row of it: its metadata has the hash by position. A statement names every record that was erased. It is a note that is
signed like a checkpoint. Without it anybody could pass a destroyed record for an erased one.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from decision_log.checkpoints import encoded64, erased_line, leaf_hash, notes_in, signed_note, signed_text
from decision_log.closed_segments import (
    closed_erased,
    closed_header,
    closed_lines,
    closed_rows,
    last_decision,
    read_whole,
    with_erased,
    write_segment,
)
from decision_log.errors import CheckpointError, DecisionLogError, SegmentError, SourceError
from decision_log.format import decoded
from decision_log.notary import SEALS, SIGNING_VARIABLE, Notary, Vault
from decision_log.overrides import OVERRIDES, check_kept, write_index
from decision_log.segments import ASIDE, CLOSED, CLOSED_SUFFIX, OPEN, SHADOW, Listing, first_line, opened, read_raw
from jobs.commandline import stop_if_asked
from jobs.output import locked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ERASURES = "erasures"
"""The name that statements are kept under, in the log's folder and where the checkpoints are."""
_NAME = "credit-scoring-erasure"
Place = tuple[str | None, int | None]
"""Request id and index of a decision."""


class ErasedRecord(NamedTuple):
    """A record that was erased: its segment, its position counted from 0, and its hash."""

    segment: str
    number: int
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Erased:
    """The result of an erasure.

    Attributes
    ----------
    records, segments : records that were destroyed, and the segments that had them
    overrides : overrides of these decisions, destroyed too
    aside : files in `aside`, which were not read
    shadow : records of challengers in shadow, destroyed too
    """

    records: int
    segments: int
    overrides: int = 0
    aside: int = 0
    shadow: int = 0


def erase(directory: Path, client: bytes, notary: Notary | None, now: datetime) -> Erased:
    """Destroy the records of the client with this hash, their overrides, and those of challengers in shadow.

    SourceError if there is no log; DecisionLogError if it cannot be written, or has checkpoints and there is no notary,
    or one that keeps nothing beside them.
    """
    if not (directory / OPEN).is_dir() and not (directory / CLOSED).is_dir():
        raise SourceError(f"{directory}: no decision log")
    if notary is None and (directory / SEALS).is_dir():
        raise DecisionLogError(f"the log has checkpoints: {SIGNING_VARIABLE} must name the key, to sign what is erased")
    check_kept(directory, notary)
    (directory / CLOSED).mkdir(mode=0o700, exist_ok=True)
    try:
        with locked(directory / CLOSED):  # `close` moves records from one folder to the other
            done = _erase(directory, client, notary, now)
    except OSError as error:
        raise DecisionLogError(f"{directory}: cannot be written ({os.strerror(error.errno or 0)})") from None
    if not (directory / SHADOW / OPEN).is_dir():
        return done
    shadow = erase(directory / SHADOW, client, notary and notary.below(SHADOW), now)
    return replace(done, aside=done.aside + shadow.aside, shadow=shadow.records)


def _erase(directory: Path, client: bytes, notary: Notary | None, now: datetime) -> Erased:
    listing = Listing.of(directory)
    found = {path: _in_open(path, client) for path in (*listing.open, *listing.closing)}
    found |= {path: _in_closed(path, client) for path in listing.closed}
    # Overrides name no client, but decisions of this one, which must still be there if this ends in between.
    overrides = _overrides_of(frozenset(place for each in found.values() for place, _ in each), directory / OVERRIDES)
    _destroy(directory / OVERRIDES, overrides, notary and notary.below(OVERRIDES), now)
    records = {path: [record for _, record in each] for path, each in found.items() if each}
    _destroy(directory, records, notary, now)
    aside = directory / ASIDE
    return Erased(
        records=sum(map(len, records.values())),
        segments=len(records),
        overrides=sum(map(len, overrides.values())),
        aside=len(list(aside.iterdir())) if aside.is_dir() else 0,
    )


def _destroy(
    directory: Path, found: Mapping[Path, Sequence[ErasedRecord]], notary: Notary | None, now: datetime
) -> None:
    """State what is erased, and destroy it."""
    if not found:
        return
    # The statement comes first: if this ends in between, the next run destroys what is left.
    _state(directory, [record for each in found.values() for record in each], notary, now)
    for path, records in found.items():
        stop_if_asked()
        (_destroy_rows if path.suffix == CLOSED_SUFFIX else _destroy_lines)(path, records)


def _in_open(path: Path, client: bytes) -> list[tuple[Place, ErasedRecord]]:
    marked = f'"client":"{client.hex()}"'.encode()
    with _named(path):
        lines = ((number, line) for number, line in enumerate(read_raw(path)) if marked in line)
        return [(_place(line), ErasedRecord(path.stem, number, leaf_hash(line))) for number, line in lines]


def _place(line: bytes) -> Place:
    values = decoded(line) or {}
    return values.get("request_id"), values.get("index")


def _in_closed(path: Path, client: bytes) -> list[tuple[Place, ErasedRecord]]:
    with _named(path):
        rows = closed_rows(path, ["client", "request_id", "index"])
        chosen = {number: (request_id, index) for number, (found, request_id, index) in rows if found == client}
        if not chosen:
            return []
        if not closed_header(path):  # format 1, whose lines have no hashes
            return [(place, ErasedRecord(path.stem, number, b"")) for number, place in chosen.items()]
        lines = ((number, line) for number, line in enumerate(closed_lines(path)) if number in chosen)
        return [(chosen[number], ErasedRecord(path.stem, number, leaf_hash(line))) for number, line in lines]


def _overrides_of(places: frozenset[Place], directory: Path) -> dict[Path, list[ErasedRecord]]:
    """The overrides of decisions, by the segment that holds them."""
    found = {}
    for path in Listing.of(directory).open if places else ():
        with _named(path):
            lines = [(at, line) for at, line in enumerate(read_raw(path)) if _place(line) in places]
        found[path] = [ErasedRecord(path.stem, at, leaf_hash(line)) for at, line in lines]
    return {path: records for path, records in found.items() if records}


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file that cannot be read; nothing is erased then, since a record might be in it."""
    try:
        yield
    except SegmentError as error:
        raise SourceError(f"{path}: {error}; `python -m monitoring close` sets it aside") from None


def _state(directory: Path, records: Sequence[ErasedRecord], notary: Notary | None, now: datetime) -> None:
    said = f"{_NAME}\ntime {now.astimezone(UTC).isoformat()}\n"
    said += "".join(f"record {one.segment} {one.number} {encoded64(one.leaf)}\n" for one in records)
    note = said.encode() if notary is None else signed_note(said.encode(), notary.key)
    Vault(str(directory)).append(ERASURES, note)
    if notary is not None and notary.vault is not None:
        notary.vault.append(ERASURES, note)


def read_statements(directory: Path, vault: Vault, keys: Sequence[Ed25519PublicKey]) -> frozenset[ErasedRecord]:
    """The records that statements name, in the log or the vault; what none of the keys has signed says nothing."""
    kept = vault.lines(ERASURES) if vault.holds(ERASURES) else ()
    return frozenset((*_stated(_lines_in(directory), keys), *_stated(kept, keys)))


def _lines_in(directory: Path) -> list[bytes]:
    with suppress(FileNotFoundError, SegmentError), opened(directory / ERASURES) as file:
        return file.readlines()
    return []


def _stated(kept: Iterable[bytes], keys: Sequence[Ed25519PublicKey]) -> Iterator[ErasedRecord]:
    for note in notes_in(kept):
        try:
            name, _, *lines = signed_text(note, keys).decode().splitlines()
            records = [line.split(" ") for line in lines if name == _NAME]
            yield from [ErasedRecord(segment, int(at), b64decode(leaf)) for _, segment, at, leaf in records]
        except (CheckpointError, ValueError):
            continue


def _destroy_lines(path: Path, records: Sequence[ErasedRecord]) -> None:
    """Write over the lines in place: a worker may still append to the file, and counts know places in it."""
    leaves = {record.number: record.leaf for record in records}
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        at = len(first_line(path))
        for number, line in enumerate(read_raw(path)):
            if number in leaves:
                if os.pread(descriptor, len(line), at) != line:  # damaged bytes in front of it are no lines
                    raise DecisionLogError(f"{path}: it is damaged; `python -m monitoring close` sets it aside")
                os.pwrite(descriptor, erased_line(leaves[number], len(line)), at)
            at += len(line) + 1
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _destroy_rows(path: Path, records: Sequence[ErasedRecord]) -> None:
    """Write the segment again without the rows."""
    import pyarrow as pa

    table, erased, until = read_whole(path), closed_erased(path), last_decision(path)
    numbers = (number for number in count() if number not in erased)
    gone = {record.number for record in records}
    keep = [number not in gone for number, _ in zip(numbers, range(table.num_rows), strict=False)]
    left = table.filter(pa.array(keep, pa.bool_()))
    leaves = {record.number: record.leaf for record in records if record.leaf}
    write_segment(with_erased(left, erased | leaves, until), path)
    rows = left.select(["request_id", "index", "time", "decision"]).to_pydict()
    write_index(path.parent.parent, path.stem, zip(*rows.values(), strict=True))
