"""What the tests of checkpoints and proofs share: keys, and logs written by real writers."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from prometheus_client import CollectorRegistry

from decision_log.checkpoints import notes_in, verified
from decision_log.format import Caller, ClientHash, Header, LineFormat
from decision_log.notary import Checkpointer, Notary
from decision_log.segments import WorkerId
from decision_log.writer import DecisionLogWriter, Position
from jobs.heartbeat import Heartbeat
from scoring.scorer import Scores
from scoring.store import private_key, public_key
from tests.monitoring.recording import settings

HEADER = Header("model", "1-abc", "abc", ("a", "b", "c"), "0123456789abcdef")
WORKER = WorkerId("20260101T000000000000Z", "host-1", 42)
FIRST = 1_770_000_000.0


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key in two PEM files, which are made if they are not there."""

    folder: Path
    private: Path = field(init=False)
    public: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        object.__setattr__(self, "private", self.folder / "record-key.pem")
        object.__setattr__(self, "public", self.folder / "record-public.pem")
        if self.public.exists():
            return
        key = Ed25519PrivateKey.generate()
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def other(self) -> KeyPair:
        """A key of somebody else."""
        return KeyPair(self.folder / "other")

    def environment(self, vault: Path | str | None = None) -> dict[str, str]:
        """The variables of a service that signs with it."""
        kept = {} if vault is None else {"RECORD_CHECKPOINTS": str(vault)}
        return {"RECORD_KEY_FILE": str(self.private), **kept}


class Due(threading.Event):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.awaited.set()
        return super().wait(timeout)


class Scribe:
    """A writer of lines that are drawn, which makes checkpoints when it is told to."""

    def __init__(
        self,
        log: Path,
        keys: KeyPair,
        vault: Path | str | None,
        *,
        worker: WorkerId = WORKER,
        segment_bytes: int = 65_536,
        header: Header = HEADER,
    ) -> None:
        self.log = log
        notary = Notary.of(keys.environment(vault), log)
        assert notary is not None
        chosen = settings(log={"segment_bytes": segment_bytes}).recording.log
        self.writer = DecisionLogWriter(log, worker, header, chosen, attested=True)
        self.failures, due = 0, Due()
        self.checkpoints = Checkpointer(
            notary, log, worker, 60.0, self.writer.take, due,
            Heartbeat("checkpoints", registry=CollectorRegistry()), failed=self._failed,
        )  # fmt: skip
        due.awaited.wait()  # else its thread would still be looking for what killed workers have left
        self._format = LineFormat(HEADER, ClientHash(b"k" * 32))
        self._random = np.random.default_rng(5)
        self.written = 0

    def _failed(self) -> None:
        self.failures += 1

    def write(self, count: int) -> None:
        """Write so many decisions, each of a request of its own."""
        for _ in range(count):
            matrix = self._random.normal(size=(1, len(HEADER.features)))
            caller = Caller(f"request-{self.written}", f"client-{self.written % 7}")
            while self.writer._next is None:  # on a busy machine a segment would grow beyond its size
                time.sleep(0.001)
            line = self._format.lines("/predict", [caller], matrix, drawn(self._random), FIRST + self.written)
            assert isinstance(self.writer.append(line), Position)
            self.written += 1

    def attest(self) -> None:
        """Make a checkpoint of what is new."""
        self.checkpoints.turn()

    def close(self) -> None:
        """End as a worker does that is stopped."""
        self.writer.close()
        self.checkpoints.close()

    @contextmanager
    def ended(self) -> Iterator[Scribe]:
        """Close it after the block."""
        yield self
        self.close()

    def die(self) -> None:
        """End as a worker does that is killed: the lock is gone, and nothing is said."""
        self.checkpoints.take = list
        self.writer.close()
        self.checkpoints.close()


@dataclass(frozen=True)
class Signed:
    """A log with its checkpoints and the keys, below one folder."""

    folder: Path
    keys: KeyPair

    @property
    def log(self) -> Path:
        """The decision log."""
        return self.folder / "log"

    @property
    def vault(self) -> Path:
        """Where its checkpoints are kept."""
        return self.folder / "vault"

    def copy(self, folder: Path) -> Signed:
        """The same elsewhere."""
        shutil.copytree(self.folder, folder)
        return Signed(folder, KeyPair(folder / "keys"))


def signed_log(folder: Path, *, records: int, every: int, segment_bytes: int = 65_536) -> Signed:
    """A log of one worker, with a checkpoint every so many records."""
    signed = Signed(folder, KeyPair(folder / "keys"))
    scribe = Scribe(signed.log, signed.keys, signed.vault, segment_bytes=segment_bytes)
    for _ in range(0, records, every):
        scribe.write(every)
        scribe.attest()
    scribe.close()
    return signed


def resigned(signed: Signed) -> None:
    """Replace every checkpoint by one that another key has signed."""
    path = signed.vault / f"{WORKER}.checkpoints"
    key, other = [public_key(signed.keys.public)], private_key(signed.keys.other.private)
    notes = [verified(note, key).signed(other) for note in notes_in(path.read_bytes().splitlines(keepends=True))]
    path.write_bytes(b"\n\n".join(notes))


def drawn(random: np.random.Generator) -> Scores:
    """The scores of one application."""
    probability = random.uniform(size=1)
    kinds = np.array(["approve"], dtype=object), np.array(["LOW"], dtype=object)
    nothing = np.empty(1, dtype=object)
    nothing[0] = ()
    count = np.zeros(1, dtype=np.int64)
    return Scores(np.log(probability), probability, count, *kinds, count, count, nothing, nothing, nothing)


def request_ids(path: Path) -> list[str]:
    """The request of each line of an open segment."""
    return [json.loads(line)["request_id"] for line in path.read_bytes().rstrip(b"\0").splitlines()[1:]]


Change = Callable[[list[bytes]], list[bytes]]


def rewrite(path: Path, change: Change) -> None:
    """Change the records of an open segment."""
    header, *lines = path.read_bytes().rstrip(b"\0").splitlines(keepends=True)
    path.write_bytes(b"".join([header, *change(lines)]))
