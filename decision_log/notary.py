"""The notary signs checkpoints and keeps them where the writer of the log cannot change them.

The hashes of the records are kept beside them, as lines `segment first-record hashes`, so that the very record that
differs can be named.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from decision_log.checkpoints import (
    HASH_BYTES,
    Checkpoint,
    Extent,
    MerkleTree,
    SegmentState,
    encoded64,
    header_hash,
    leaf_of,
    notes_in,
    verified,
)
from decision_log.errors import CheckpointError, DecisionLogError, SegmentError
from decision_log.format import Header
from decision_log.segments import Listing, WorkerId, claimed, first_line, opened, read_header, read_raw
from jobs.heartbeat import Heartbeat
from jobs.output import replaced
from scoring.errors import SignatureError
from scoring.store import private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LOGGER = logging.getLogger("bentoml.credit_scoring")

SIGNING_VARIABLE = "RECORD_KEY_FILE"
"""The environment variable that names the PEM file of the private key; without it there are no checkpoints."""
ADDRESS_VARIABLE = "RECORD_CHECKPOINTS"
"""The environment variable with the folder or fsspec address that checkpoints are kept at, beside the log's lines."""
NOTES, HASHES = ".checkpoints", ".hashes"
"""Ends of the names that a worker's checkpoints and the hashes of its records are kept under."""
SEALS = "seals"
"""The folder of a log with the last checkpoint of each segment."""
_RETRY_SECONDS = 1.0
_FIRST_SECONDS, _LAST_SECONDS = 5.0, 10.0
"""How long a worker waits for its first checkpoint when it starts, and for its last ones when it ends."""
_BLOCK = 1 << 20


class Vault:
    """Where checkpoints are kept: a folder, or an address of fsspec such as s3://bucket/folder.

    A file in a folder is only ever appended to. An object store cannot append, so each part is an object of its own
    there: a store may lock it for good. CheckpointError if the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        self.address = address.removeprefix("file://")
        self._files: Any = None
        if "://" not in self.address:
            return
        import fsspec

        try:
            self._files, self.address = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise CheckpointError(f"{address}: cannot be used ({type(error).__name__})") from None

    def below(self, name: str) -> Vault:
        """The folder of that name in this one."""
        other = copy(self)
        other.address = f"{self.address}/{name}"
        return other

    def append(self, name: str, content: bytes) -> None:
        """Add to what is kept under the name; CheckpointError if that fails."""
        # Empty lines end whatever a crash has left of a line or a note.
        with self._failures():
            if self._files is None:
                self._append_locally(Path(self.address) / name, b"\n\n" + content)
            else:
                folder = f"{self.address}/{name}"
                part = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
                self._files.makedirs(folder, exist_ok=True)
                self._files.pipe_file(f"{folder}/{part}", content)

    def put(self, name: str, file: Path) -> None:
        """Keep a copy of the file under the name, in place of an older one; CheckpointError if that fails."""
        with self._failures():
            if self._files is None:
                Path(self.address).mkdir(parents=True, exist_ok=True)
                with replaced(Path(self.address) / name, mode=0o600, durable=True) as target, file.open("rb") as source:
                    shutil.copyfileobj(source, target)
            else:
                self._files.makedirs(self.address, exist_ok=True)
                self._files.put_file(str(file), f"{self.address}/{name}")

    def names(self) -> list[str]:
        """The names that something is kept under; CheckpointError if there is no such folder."""
        with self._failures():
            if self._files is None:
                return sorted(path.name for path in Path(self.address).iterdir())
            return sorted(path.rstrip("/").rpartition("/")[2] for path in self._files.ls(self.address, detail=False))

    def holds(self, name: str) -> bool:
        """Whether something is kept under the name."""
        with self._failures():
            if self._files is None:
                return (Path(self.address) / name).exists()
            return bool(self._files.exists(f"{self.address}/{name}"))

    def lines(self, name: str) -> Iterator[bytes]:
        """What is kept under the name, in lines with their ends."""
        if self._files is None:
            with self._failures(), (Path(self.address) / name).open("rb") as file:
                yield from file
            return
        with self._failures():
            for part in sorted(self._files.ls(f"{self.address}/{name}", detail=False)):
                yield from (b"\n\n" + self._files.cat_file(part)).splitlines(keepends=True)

    def _append_locally(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0) as file:
            if file.write(content) != len(content):
                raise OSError("written in part")

    def _failures(self) -> _AsCheckpointError:
        return _AsCheckpointError(self.address)


@dataclass(frozen=True, slots=True)
class _AsCheckpointError:
    """Turns whatever a file system raises into a CheckpointError."""

    address: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Each file system of fsspec has errors of its own, which have no base below Exception.
        if isinstance(error, Exception):
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
            raise CheckpointError(f"{self.address}: {reason}") from None


@dataclass(frozen=True, slots=True)
class Notary:
    """Signs checkpoints of the segments in a log and keeps them; without a vault they are in the service's log only."""

    key: Ed25519PrivateKey
    vault: Vault | None
    seals: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], directory: Path) -> Self | None:
        """The notary that the environment names; None without a key. CheckpointError if it cannot work."""
        file, address = environment.get(SIGNING_VARIABLE), environment.get(ADDRESS_VARIABLE)
        if not file:
            return None
        try:
            key = private_key(Path(file))
        except SignatureError as error:
            raise CheckpointError(f"{SIGNING_VARIABLE}: {error}") from None
        vault = Vault(address) if address else None
        if vault and directory.resolve() in (path := Path(vault.address).resolve(), *path.parents):
            raise CheckpointError(f"{ADDRESS_VARIABLE}: {address} is within the log, where its writer can change it")
        return cls(key, vault, directory / SEALS)

    def below(self, name: str) -> Notary:
        """The notary of a log in the folder of that name, whose checkpoints are kept in a folder of that name too."""
        return Notary(self.key, self.vault and self.vault.below(name), self.seals.parent / name / SEALS)

    def attest(self, progress: Extent, now: datetime, *, ended: SegmentState = SegmentState.FINAL) -> Checkpoint:
        """Sign and keep a checkpoint; CheckpointError or OSError if it cannot be kept.

        `ended` is the state of the segment if nothing more is written.
        """
        state = ended if progress.finished else SegmentState.GROWING
        made = Checkpoint(
            progress.segment, progress.size, progress.root, now, progress.header, progress.previous, state
        )
        note = made.signed(self.key)
        if self.vault:
            worker = progress.segment.rpartition("-")[0]
            first = progress.size - len(progress.hashes) // HASH_BYTES
            if progress.hashes:
                line = f"{progress.segment} {first} {encoded64(progress.hashes)}\n"
                self.vault.append(worker + HASHES, line.encode())
            self.vault.append(worker + NOTES, note)
        if progress.finished and progress.header:  # a segment that never began leaves nothing to seal
            self._seal(progress.segment, note)
        signature = note.rstrip().rpartition(b" ")[2].decode()
        _LOGGER.info("checkpoint %s %d %s %s %s", made.segment, made.size, encoded64(made.root), state, signature)
        return made

    def attest_expired(self, segment: str, header: bytes, lines: Iterable[bytes], now: datetime) -> None:
        """Sign what a segment held that is removed for its age next, so that `verify` does not miss it.

        SegmentError if it is not what its last checkpoint says.
        """
        tree = MerkleTree()
        for line in lines:
            tree.add(leaf_of(line))
        previous = Header.parse(header).previous
        held = Extent(segment, tree.size, tree.root(), header_hash(header), previous, b"", finished=True)
        signed = self.seal_of(segment)
        if signed is not None and (signed.size, signed.root) != (held.size, held.root):
            raise SegmentError("it is not what was signed")
        self.attest(held, now, ended=SegmentState.EXPIRED)

    def _seal(self, segment: str, note: bytes) -> None:
        self.seals.mkdir(mode=0o700, exist_ok=True)
        scratch = self.seals / f".{segment}-{secrets.token_hex(4)}"
        scratch.write_bytes(note)
        scratch.chmod(0o600)
        scratch.replace(self.seals / segment)

    def sealed(self, segment: str) -> bool:
        """Whether the segment has its last checkpoint."""
        return (self.seals / segment).exists()

    def seal_of(self, segment: str) -> Checkpoint | None:
        """The last checkpoint of a segment, as the log keeps it; None where this key has signed none."""
        with suppress(OSError, ValueError, CheckpointError):
            found = verified((self.seals / segment).read_bytes(), [self.key.public_key()])
            return found if found.segment == segment else None
        return None

    def seal(self, path: Path, now: datetime) -> None:
        """End the segment of a killed worker, whose lock the caller holds: cut a torn end, and sign what it holds.

        A segment that no worker of this log can have written is left unsigned, and named in the service's log.
        """
        header = read_header(path)
        if header is None or header.format == 1:
            return
        if not self._begun_by_a_worker(path.stem, header):
            _LOGGER.warning("%s: no checkpoint says that a worker began it, so it is not signed", path)
            return
        os.truncate(path, _end(path))
        hashes, tree = bytearray(), MerkleTree()
        for line in read_raw(path):
            leaf = leaf_of(line)
            tree.add(leaf)
            hashes += leaf
        first = header_hash(first_line(path))
        done = Extent(path.stem, tree.size, tree.root(), first, header.previous, bytes(hashes), finished=True)
        self.attest(done, now, ended=SegmentState.RECOVERED)

    def _begun_by_a_worker(self, segment: str, header: Header) -> bool:
        """Whether a checkpoint names the segment, or the one before it while its worker had not ended.

        Whoever may write into the folder may put a segment there; signing it would make it one of the log.
        """
        worker = segment.rpartition("-")[0]
        if self.vault is None:
            return True
        made = self._checkpoints_of(worker)
        if any(one.segment == segment for one in made):
            return True
        before = header.previous
        ended = any(one.state is SegmentState.FINAL and not one.size for one in made)
        return (
            not ended
            and before is not None
            and any(
                one.state is SegmentState.FINAL and (one.segment, one.size, one.root.hex()) == before for one in made
            )
        )

    def _checkpoints_of(self, worker: str) -> list[Checkpoint]:
        found: list[Checkpoint] = []
        if self.vault is None or not self.vault.holds(worker + NOTES):
            return found
        for note in notes_in(self.vault.lines(worker + NOTES)):
            with suppress(ValueError, CheckpointError):
                found.append(verified(note, [self.key.public_key()]))
        return found

    def recover(self, directory: Path, now: datetime, *, own: WorkerId) -> None:
        """Seal every open segment that another worker has left without a last checkpoint."""
        listing = Listing.of(directory)
        for path in (*listing.closing, *listing.open):
            if self.sealed(path.stem) or path.stem.startswith(f"{own}-"):
                continue
            with suppress(SegmentError, FileNotFoundError), claimed(path) as free:
                if free:
                    self.seal(path, now)


def _end(path: Path) -> int:
    """The byte after the last line that has an end."""
    with opened(path) as file:
        at = file.seek(0, os.SEEK_END)
        while at:
            start = max(0, at - _BLOCK)
            file.seek(start)
            found = file.read(at - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            at = start
    return 0


@dataclass(eq=False)
class Checkpointer:
    """A thread that has the progress of one worker attested: no request waits for it.

    A failure is counted and logged once, and all that waits is tried again.

    Parameters
    ----------
    take : gives what has been written since it was asked before
    due : is set when many records are new
    made, failed : are told of each checkpoint and of each failure
    """

    notary: Notary
    directory: Path
    worker: WorkerId
    seconds: float
    take: Callable[[], list[Extent]]
    due: threading.Event
    heartbeat: Heartbeat
    made: Callable[[Checkpoint], object] = lambda _: None
    failed: Callable[[], object] = lambda: None
    _waiting: dict[str, Extent] = field(default_factory=dict)
    _stopping: bool = False
    _begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()
        # Before anybody is answered: a worker that is killed in its first second has a checkpoint that names it.
        self._begun.wait(_FIRST_SECONDS)

    def close(self) -> None:
        """Attest what is left; the writer has been closed before."""
        self._stopping = True
        self.due.set()
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        with self.heartbeat.guarded():
            self.turn()
        self._begun.set()
        with self.heartbeat.guarded():
            self.notary.recover(self.directory, datetime.now(UTC), own=self.worker)
        while not self._stopping:
            self.due.wait(_RETRY_SECONDS if self.heartbeat.failing else self.seconds)
            self.due.clear()
            with self.heartbeat.guarded():
                self.turn()
        if not self._waiting:
            with self.heartbeat.guarded():
                self.turn()
        self.heartbeat.rest()

    def turn(self) -> None:
        """Attest what is new; DecisionLogError or OSError if something cannot be kept, and then all else is tried."""
        for progress in self.take():
            self._waiting[progress.segment] = progress.after(self._waiting.get(progress.segment))
        failure: DecisionLogError | OSError | None = None
        for segment, progress in list(self._waiting.items()):
            try:
                self.made(self.notary.attest(progress, datetime.now(UTC)))
            except (DecisionLogError, OSError) as error:
                if not self.heartbeat.failing and failure is None:
                    _LOGGER.error("checkpoints of the decision log cannot be kept: %s", error)  # noqa: TRY400 - one line
                failure = error
                self.failed()
            else:
                del self._waiting[segment]
        if failure is not None:
            raise failure
