"""Proofs: holds a log against its checkpoints, names the first record that differs, and proves single records."""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decision_log.checkpoints import (
    HASH_BYTES,
    Checkpoint,
    MerkleTree,
    SegmentState,
    audit_path,
    header_hash,
    is_erased,
    leaf_of,
    notes_in,
    verified,
)
from decision_log.closed_segments import closed_header, closed_lines, closed_rows
from decision_log.erasure import ErasedRecord, read_statements
from decision_log.errors import CheckpointError, SegmentError, SourceError
from decision_log.format import Header, SegmentBefore, decoded
from decision_log.notary import HASHES, NOTES, Vault
from decision_log.segments import CLOSED, CLOSED_SUFFIX, OPEN, OPEN_SUFFIX, Listing, first_line, read_raw
from jobs.commandline import stop_if_asked
from jobs.settings import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ADVANCE = 8_192
Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a segment, at which record, counted from 0; the record is None where it is not known."""

    segment: str
    what: str
    record: int | None = None

    def __str__(self) -> str:
        place = "" if self.record is None else f"record {self.record} "
        return f"{self.segment}: {place}{self.what}"


@dataclass(slots=True)
class Verification:
    """What was found when a log was held against its checkpoints.

    Attributes
    ----------
    segments, records : how many were looked at
    covered : records that checkpoints cover and that are as they were
    erased : records that were destroyed, as signed statements say
    expired : records of segments that were removed for their age, as signed checkpoints say
    findings : the first thing that is wrong with each segment
    remarks : segments that are not covered to their end, and why
    """

    segments: int = 0
    records: int = 0
    covered: int = 0
    erased: int = 0
    expired: int = 0
    findings: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class Evidence:
    """What is kept about one segment: its checkpoints with their notes, and the hashes of its records by position."""

    checkpoints: list[tuple[Checkpoint, bytes]] = field(default_factory=list)
    hashes: dict[int, bytes] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """How many records the largest checkpoint covers."""
        return max((checkpoint.size for checkpoint, _ in self.checkpoints), default=0)

    def ended(self) -> int | None:
        """How many records the segment had when it ended; None if no checkpoint says so."""
        ends = [one.size for one, _ in self.checkpoints if one.state is not SegmentState.GROWING]
        return max(ends, default=None)

    def recovered(self) -> bool:
        """Whether another than the worker has ended the segment."""
        ends = {(one.size, one.root) for one, _ in self.checkpoints if one.state is SegmentState.FINAL}
        others = {(one.size, one.root) for one, _ in self.checkpoints if one.state is SegmentState.RECOVERED}
        return bool(others - ends)

    def expired(self, claim: SegmentBefore | None) -> bool:
        """Whether a checkpoint says that the segment was removed for its age, and all others say the same of it."""
        ends = [one for one, _ in self.checkpoints if one.state is SegmentState.EXPIRED]
        if not ends:
            return False
        said = {one.root for one, _ in self.checkpoints if one.size == ends[0].size}
        said |= {bytes.fromhex(claim.root)} if claim is not None else set()
        return self.last == ends[0].size and said == {ends[0].root}

    def leaves(self, size: int) -> list[bytes | None]:
        """The kept hashes of the first records; None where there is none."""
        found: list[bytes | None] = [None] * size
        for first, hashes in self.hashes.items():
            for at in range(min(len(hashes) // HASH_BYTES, max(0, size - first))):
                found[first + at] = hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
        return found


def verify_log(
    directory: Path, vault: Vault, keys: Sequence[Ed25519PublicKey], advance: Advance = lambda _: None
) -> Verification:
    """Hold a decision log against its checkpoints; SourceError or CheckpointError if either cannot be read."""
    if not (directory / OPEN).is_dir() and not (directory / CLOSED).is_dir():
        raise SourceError(f"{directory}: no decision log")
    found, destroyed = Verification(), list[ErasedRecord]()
    stored = _by_worker({path.stem: path for path in _segments(directory)})
    names = set(vault.names())
    workers = {name.removesuffix(NOTES) for name in names if name.endswith(NOTES)}
    for worker in sorted(workers | stored.keys()):
        evidence = read_evidence(vault, worker, keys, found.findings) if worker in workers else {}
        # Names begin with the start of the worker. One that started before all others may have had no checkpoints yet.
        known = any(other < worker for other in workers)
        _Worker(directory, stored.get(worker, {}), evidence, destroyed, found, advance, known).verify()
    # Statements come before what they state, so they are read after it: the log may be written, closed and erased now.
    _hold_against(read_statements(directory, vault, keys), destroyed, found)
    return found


def _hold_against(stated: frozenset[ErasedRecord], destroyed: Sequence[ErasedRecord], found: Verification) -> None:
    """Find the first record of each segment that was destroyed without a statement."""
    first: dict[str, int] = {}
    for record in destroyed:
        if record not in stated:
            first.setdefault(record.segment, record.number)
    what = "was destroyed, and no signed statement says that it was erased"
    found.findings += [Finding(segment, what, number) for segment, number in first.items()]


def _segments(directory: Path) -> tuple[Path, ...]:
    listing = Listing.of(directory)
    return (*listing.closed, *listing.open)


def _by_worker(segments: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for segment, path in segments.items():
        found[segment.rpartition("-")[0]][segment] = path
    return dict(found)


def read_evidence(
    vault: Vault, worker: str, keys: Sequence[Ed25519PublicKey], wrong: list[Finding]
) -> dict[str, Evidence]:
    """What is kept about the segments of a worker; checkpoints that no given key has signed are added to `wrong`."""
    found: dict[str, Evidence] = defaultdict(Evidence)
    for note in notes_in(vault.lines(worker + NOTES)):
        try:
            checkpoint = verified(note, keys)
        except CheckpointError as error:
            wrong.append(Finding(worker, printable(str(error))))
        except ValueError:  # a crash has cut it short; the worker has made it again
            continue
        else:
            found[checkpoint.segment].checkpoints.append((checkpoint, note))
    if vault.holds(worker + HASHES):
        for line in vault.lines(worker + HASHES):
            _add_hashes(line, found)
    return dict(found)


def _add_hashes(line: bytes, found: dict[str, Evidence]) -> None:
    try:
        segment, first, encoded = line.decode("ascii").split()
        hashes, at = b64decode(encoded, validate=True), int(first)
    except ValueError:  # an empty line, or one that a crash has cut short
        return
    if segment in found and at >= 0:
        found[segment].hashes[at] = max(found[segment].hashes.get(at, b""), hashes, key=len)


@dataclass(slots=True)
class _Worker:
    """The segments of one worker, and what is kept about them."""

    directory: Path
    stored: dict[str, Path]
    evidence: dict[str, Evidence]
    destroyed: list[ErasedRecord]
    found: Verification
    advance: Advance
    attested: bool
    """Whether checkpoints were made already when the worker started."""

    def verify(self) -> None:
        for segment in self.evidence.keys() - self.stored.keys():
            if path := self._begun_since(segment):
                self.stored[segment] = path
        headers = {segment: self._header(segment, path) for segment, path in self.stored.items()}
        named = [header.previous for header in headers.values() if header and header.previous]
        named += [one.previous for each in self.evidence.values() for one, _ in each.checkpoints if one.previous]
        claims = {previous.segment: previous for previous in named}
        for segment in sorted({*self.stored, *self.evidence, *claims}, key=_number):
            stop_if_asked()
            header = headers.get(segment)
            evidence = self.evidence.get(segment, Evidence())
            if segment not in self.stored:
                self._explain_absence(segment, evidence, claims.get(segment))
            elif header is not None:
                try:
                    self._verify(segment, header, evidence, claims.get(segment))
                except FileNotFoundError:
                    self.found.remarks.append(Finding(segment, "it was removed meanwhile"))

    def _explain_absence(self, segment: str, evidence: Evidence, claim: SegmentBefore | None) -> None:
        size = max(evidence.last, 0 if claim is None else claim.size)
        if evidence.expired(claim):
            self.found.expired += evidence.last
        # A worker removes a segment that it began and did not need, and `close` one that a killed worker has left.
        elif size or not (evidence.ended() == 0 or self._has_ended()):
            self.found.findings.append(Finding(segment, f"the segment is missing, with {size:,} records"))

    def _has_ended(self) -> bool:
        """Whether the worker has signed that it writes no further segment."""
        return any(
            one.state is SegmentState.FINAL and not one.size
            for each in self.evidence.values()
            for one, _ in each.checkpoints
        )

    def _begun_since(self, segment: str) -> Path | None:
        """The file of a segment that began, or was closed, after the log was listed; None if there is none."""
        begun, closed = self._paths(segment)
        # looked at twice, since it may be closed in between
        return next((path for path in (closed, begun, closed) if path.exists()), None)

    def _paths(self, segment: str) -> tuple[Path, Path]:
        return (
            self.directory / OPEN / f"{segment}{OPEN_SUFFIX}",
            self.directory / CLOSED / f"{segment}{CLOSED_SUFFIX}",
        )

    def _header(self, segment: str, path: Path) -> Header | None:
        try:
            return _header_of(path)
        except SegmentError as error:
            self.found.findings.append(Finding(segment, f"it cannot be read: {error}"))
        except FileNotFoundError:
            return self._closed_meanwhile(segment, path)
        except _NoHeaderError:
            if segment in self.evidence:
                self.found.findings.append(Finding(segment, "its header was changed"))
        return None

    def _closed_meanwhile(self, segment: str, path: Path) -> Header | None:
        _, closed = self._paths(segment)
        if path != closed and closed.exists():
            self.stored[segment] = closed
            return self._header(segment, closed)
        self.found.remarks.append(Finding(segment, "it was removed meanwhile"))
        return None

    def _verify(self, segment: str, header: Header, evidence: Evidence, claim: SegmentBefore | None) -> None:
        if header.format == 1 and not evidence.checkpoints:
            self.found.remarks.append(Finding(segment, "it is of format 1, which proves nothing"))
            return
        if not evidence.checkpoints and (self._has_ended() or (self.attested and not self.evidence)):
            self.found.findings.append(Finding(segment, "no worker has begun it: it was put there"))
            return
        path = self._begun_since(segment) or self.stored[segment]
        kept = {one.header for one, _ in evidence.checkpoints}
        if kept and kept != {header_hash(_header_line(path))}:
            self.found.findings.append(Finding(segment, "its header was changed"))
            return
        try:
            judged = HashedSegment.of(stored_records(path, self.advance), evidence, claim)
        except SegmentError as error:
            self.found.findings.append(Finding(segment, f"it cannot be read: {error}"))
            return
        self.found.segments += 1
        self.found.records += judged.size
        self.found.covered += judged.good
        self.found.erased += len(judged.erased)
        self.destroyed += [ErasedRecord(segment, at, judged.leaves[at]) for at in judged.erased]
        difference = judged.difference(evidence)
        if difference is not None:
            record, what = difference
            self.found.findings.append(Finding(segment, what + _request(path, record), record))
        elif judged.good < judged.size:
            more = judged.size - judged.good
            self.found.remarks.append(
                Finding(segment, f"the last {more:,} records are not yet covered by a checkpoint")
            )
        if evidence.recovered():
            self.found.remarks.append(Finding(segment, "its worker was killed, and its end was signed afterwards"))


class _NoHeaderError(Exception):
    """An open segment without a whole header, which holds no record."""


def _number(segment: str) -> tuple[str, int]:
    worker, _, number = segment.rpartition("-")
    return worker, int(number) if number.isdecimal() else 0


def _header_line(path: Path) -> bytes:
    return closed_header(path) if path.suffix == CLOSED_SUFFIX else first_line(path)


def _header_of(path: Path) -> Header:
    line = _header_line(path)
    if path.suffix == CLOSED_SUFFIX and not line:
        return Header("", "", "", (), format=1)
    try:
        return Header.parse(line)
    except ValueError:
        raise _NoHeaderError from None


def stored_records(path: Path, advance: Advance = lambda _: None) -> Iterator[bytes]:
    """The lines of an open or closed segment as they were written, without their ends."""
    lines = closed_lines(path) if path.suffix == CLOSED_SUFFIX else read_raw(path)
    while block := list(islice(lines, _ADVANCE)):
        yield from block
        advance(len(block))


@dataclass(slots=True)
class HashedSegment:
    """The hashes of a segment's records as they are stored, held against the roots that are claimed for it.

    Attributes
    ----------
    erased : positions of records that were erased
    good : records up to the last claim that holds, before the first that does not
    failing : size and root of the first claim that does not hold; None without one
    """

    leaves: list[bytes]
    erased: list[int] = field(default_factory=list)
    good: int = 0
    failing: tuple[int, bytes] | None = None

    @property
    def size(self) -> int:
        """How many records are stored."""
        return len(self.leaves)

    @classmethod
    def of(cls, lines: Iterable[bytes], evidence: Evidence, claim: SegmentBefore | None) -> HashedSegment:
        """Hash the lines, and compare the root wherever one is claimed."""
        claims: dict[int, set[bytes]] = defaultdict(set)
        for checkpoint, _ in evidence.checkpoints:
            claims[checkpoint.size].add(checkpoint.root)
        if claim is not None:
            claims[claim.size].add(bytes.fromhex(claim.root))
        tree, found = MerkleTree(), cls([])
        for line in lines:
            if is_erased(line):
                found.erased.append(tree.size)
            leaf = leaf_of(line)
            tree.add(leaf)
            found.leaves.append(leaf)
            if tree.size in claims and found.failing is None:
                found._hold(tree, claims[tree.size])
        beyond = [size for size in claims if size > tree.size]
        if found.failing is None and beyond:
            found.failing = (min(beyond), next(iter(claims[min(beyond)])))
        return found

    def _hold(self, tree: MerkleTree, roots: set[bytes]) -> None:
        if roots == {tree.root()}:
            self.good = tree.size
        else:
            self.failing = (tree.size, next(iter(roots - {tree.root()})))

    def difference(self, evidence: Evidence) -> tuple[int, str] | None:
        """The first record that differs and how; None if none does."""
        ended = evidence.ended()
        if self.failing is None:
            if ended is not None and self.size > ended:
                return ended, "was added after the segment had ended"
            return None
        until, root = self.failing
        kept = evidence.leaves(max(until, evidence.last))
        expected = [leaf for leaf in kept[self.good : until] if leaf is not None]
        tree = MerkleTree.of(self.leaves[: self.good])
        for leaf in expected:
            tree.add(leaf)
        if tree.size != until or tree.root() != root:  # the kept hashes are not whole, or were changed themselves
            if self.size < until and self.good == self.size:
                return self.size, f"and all others up to {until - 1} were cut off"
            return self.good, f"or one of the others up to {until - 1} was changed, dropped, inserted or swapped"
        return _located(self.leaves, kept, self.good)


def _located(stored: Sequence[bytes], kept: Sequence[bytes | None], good: int) -> tuple[int, str]:
    """The first record that is not what was kept of it, and what became of it."""
    size = len(kept)
    pairs = enumerate(zip(stored[good:], kept[good:], strict=False), good)
    at = next((number for number, (found, expected) in pairs if found != expected), len(stored))
    if at >= len(stored):
        return at, f"and all others up to {size - 1} were cut off" if at < size - 1 else "was cut off"
    place = {leaf: number for number, leaf in enumerate(kept[at:], at) if leaf is not None}.get(stored[at])
    if place is not None and place < len(stored) and stored[place] == kept[at]:
        return at, f"was swapped with record {place}"
    if place is not None:
        return at, "was dropped" if place == at + 1 else f"and the others up to {place - 1} were dropped"
    later = {leaf: number for number, leaf in enumerate(stored[at:], at)}.get(kept[at] or b"")
    return at, "was changed" if later is None else "was inserted"


def _request(path: Path, record: int) -> str:
    """The request of the record that now stands at a place, in brackets."""
    line = None
    with suppress(FileNotFoundError):  # closed meanwhile
        line = next(islice(stored_records(path), record, None), None)
    values = decoded(line) if line else None
    name = values.get("request_id") if values else None
    return f" (now there: request {printable(name)})" if isinstance(name, str) else ""


def prove(
    directory: Path, vault: Vault, keys: Sequence[Ed25519PublicKey], request_id: str, index: int | None = None
) -> dict[str, Any]:
    """A proof that the record of a request was in a segment when its checkpoint was signed, JSON-ready.

    SourceError if there is no such record, or several; CheckpointError if no checkpoint covers it.
    """
    places = [place for path in _segments(directory) for place in _places(path, request_id, index)]
    if not places:
        raise SourceError("there is no record of this request")
    if len(places) > 1:
        raise SourceError(f"{len(places)} records are of this request: name one with --index")
    ((path, number),) = places
    lines = list(stored_records(path))
    leaves = [leaf_of(line) for line in lines]
    worker = path.stem.rpartition("-")[0]
    notes = read_evidence(vault, worker, keys, []) if vault.holds(worker + NOTES) else {}
    for checkpoint, note in sorted(notes.get(path.stem, Evidence()).checkpoints, key=lambda one: -one[0].size):
        covers = number < checkpoint.size <= len(leaves)
        if covers and MerkleTree.of(leaves[: checkpoint.size]).root() == checkpoint.root:
            beside = audit_path(leaves[: checkpoint.size], number)
            return {
                "line": lines[number].decode(),
                "index": number,
                "path": [one.hex() for one in beside],
                "checkpoint": note.decode(),
            }
    raise CheckpointError(f"{path.stem}: no checkpoint covers record {number} as it is stored")


def _places(path: Path, request_id: str, index: int | None) -> Iterator[tuple[Path, int]]:
    """Where the records of a request are in a segment."""
    stop_if_asked()
    rows = _closed_rows(path) if path.suffix == CLOSED_SUFFIX else _open_rows(path, request_id)
    try:
        for number, name, position in rows:
            if name == request_id and index in (None, position):
                yield path, number
    except (SegmentError, FileNotFoundError):  # `verify` names it
        return


def _closed_rows(path: Path) -> Iterator[tuple[int, Any, Any]]:
    return ((number, *row) for number, row in closed_rows(path, ["request_id", "index"]))


def _open_rows(path: Path, request_id: str) -> Iterator[tuple[int, Any, Any]]:
    named = request_id.encode()
    for number, line in enumerate(read_raw(path)):
        values = decoded(line) if named in line else None
        if values:
            yield number, values.get("request_id"), values.get("index")
