"""The engine that scores the parts of a batch job on the workers of a Dask cluster. Needs the extra `dask`.

A worker is sent the address of a part and writes its decisions itself: no row passes through the scheduler. What a dead
worker has not finished is scored by others.
"""

from __future__ import annotations

import logging
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from jobs.errors import ProjectError
from scoring.errors import BatchError
from scoring.part import Advance, PartRecord, PartTask, score_part

if TYPE_CHECKING:
    from distributed import Client, Future

NOT_ON_EXECUTORS = frozenset({
    "features/__main__.py", "features/cli.py", "features/history_files.py", "features/materialize.py",
    "jobs/commandline.py", "jobs/heartbeat.py", "scoring/__main__.py", "scoring/cli.py", "scoring/keys.py",
})  # fmt: skip
"""Modules that the wheel leaves out: commands and what belongs to a service, for which click and more are needed."""

PACKAGES = ("features", "jobs", "scoring")

_ADDRESS = re.compile(r"(tcp|tls|ws|wss)://[^/\s]+:\d{1,5}")
_CONNECT_SECONDS = 5
_TICK = 0.5
_RETRIES = 2
"""Further attempts at a part: a disk or a bucket may fail for a moment."""


@dataclass(frozen=True, slots=True)
class ScorerBuild:
    """What the bits of a score depend on: the code and the libraries of one Python environment."""

    scorer: str
    numpy: str
    pyarrow: str
    lightgbm: str

    @classmethod
    def here(cls) -> Self:
        """That of this process."""
        return cls(_code_digest(), *(version(name) for name in ("numpy", "pyarrow", "lightgbm")))

    def difference(self, expected: ScorerBuild) -> str:
        """What differs from the expected one, in words; "" if nothing does.

        >>> ScorerBuild("a", "2.4.5", "25.0.1", "4.7.0").difference(ScorerBuild("a", "2.4.6", "25.0.1", "4.7.0"))
        'numpy 2.4.5 instead of 2.4.6'
        """
        found, wanted = asdict(self), asdict(expected)
        names = [name for name in found if found[name] != wanted[name]]
        return ", ".join(f"{name} {found[name]} instead of {wanted[name]}" for name in names)


@cache
def _code_digest() -> str:
    """The first digits of the SHA-256 of the modules that a wheel holds."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(file for package in PACKAGES for file in (root / package).glob("*.py"))
    kept = [file for file in files if file.relative_to(root).as_posix() not in NOT_ON_EXECUTORS]
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in kept)).hexdigest()[:12]


def score_on_worker(task: PartTask, expected: ScorerBuild) -> PartRecord:
    """Score one part; BatchError if this worker has another scorer than the command that asks."""
    if difference := ScorerBuild.here().difference(expected):
        raise BatchError(f"a worker has {difference}: it needs the wheel and the versions of this command")
    return score_part(task)


def _by_value() -> Callable[[bytes], PartRecord]:
    """The function that a worker runs. Being defined here it is sent as code, and not as the name of a module."""

    # The scheduler unpickles what it is sent, and need not have the scorer: it gets code and bytes.
    def score(sent: bytes) -> PartRecord:
        from pickle import loads

        from scoring.cluster import score_on_worker

        return score_on_worker(*loads(sent))  # noqa: S301 - of the client, whose code it runs anyway

    return score


@dataclass(frozen=True, slots=True)
class DaskEngine:
    """Scores parts on the workers of the scheduler at an address.

    Attributes
    ----------
    scheduler : such as tcp://10.0.0.7:8786; Dask's own configuration has the certificates of tls://
    patience : seconds for which the job waits while there is no worker at all
    """

    scheduler: str
    patience: float = 60.0

    def __post_init__(self) -> None:
        # Of an address without a port Dask's client cannot even be closed again.
        if not _ADDRESS.fullmatch(self.scheduler):
            raise BatchError(f"{self.scheduler}: an address of a scheduler is such as tcp://10.0.0.7:8786")

    def run(self, tasks: Sequence[PartTask], advance: Advance) -> Iterator[PartRecord]:
        """The records of the parts as they are finished; BatchError, in one line, if the cluster fails."""
        if not tasks:
            return
        with self._connected() as client:
            done: SimpleQueue[Future] = SimpleQueue()
            sent = [pickle.dumps((task, ScorerBuild.here())) for task in tasks]
            futures = client.map(_by_value(), sent, pure=False, retries=_RETRIES)
            try:
                for future in futures:
                    future.add_done_callback(done.put)
                waiting = {future.key: task for future, task in zip(futures, tasks, strict=True)}
                while waiting:
                    future = self._next(client, done, advance)
                    record = self._record(future, waiting.pop(future.key))
                    advance(record.counts.rows)
                    yield record
            finally:
                if client.status == "running":
                    client.cancel(futures)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        try:
            from distributed import Client
            from distributed.versions import VersionMismatchWarning
        except ModuleNotFoundError as error:
            raise BatchError(f"--engine dask needs {error.name}: install the extra `dask`") from None
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs a traceback of what is said in one line here
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)  # an error below, in one line
                client = Client(self.scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except OSError:
            raise BatchError(f"{self.scheduler}: no scheduler of Dask answers there") from None
        # Any call may be the first to find the connection broken, that which ends the client too.
        try:
            with client:
                self._require_same_dask(client)
                yield client
        except OSError:
            raise self._lost() from None

    def _require_same_dask(self, client: Client) -> None:
        found = client.get_versions()
        here = found["client"]["packages"]
        for packages in (found["scheduler"]["packages"], *(one["packages"] for one in found["workers"].values())):
            for name in ("dask", "distributed"):
                if packages[name] != here[name]:
                    raise BatchError(f"{self.scheduler}: has {name} {packages[name]}, this command {here[name]}")

    def _next(self, client: Client, done: SimpleQueue[Future], advance: Advance) -> Future:
        """The next future that is finished or has failed."""
        alone_since = None
        while True:
            try:
                future = done.get(timeout=_TICK)
            except Empty:
                advance(0)
                alone_since = None if self._has_workers(client) else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() - alone_since > self.patience:
                    raise BatchError(f"{self.scheduler}: has had no worker for {self.patience:g} seconds") from None
                continue
            if future.status in ("finished", "error", "cancelled"):
                return future
            # The worker that held the result has died in between: the part is looked up again.
            future.add_done_callback(done.put)

    def _has_workers(self, client: Client) -> bool:
        try:
            return bool(client.scheduler_info(n_workers=-1)["workers"])
        except OSError:
            raise self._lost() from None

    def _lost(self) -> BatchError:
        return BatchError(f"{self.scheduler}: the scheduler was lost; started again, the job continues")

    def _record(self, future: Future, task: PartTask) -> PartRecord:
        if future.status == "cancelled":
            raise self._lost()
        error = future.exception()
        if error is None:
            record: PartRecord = future.result()
            return record
        if isinstance(error, ProjectError):
            raise error
        if isinstance(error, ModuleNotFoundError):
            raise BatchError(f"{self.scheduler}: a worker lacks {error.name}: it needs the wheel of the scorer")
        kind = type(error).__name__
        if kind == "KilledWorker":
            raise BatchError(f"part {task.number}: every worker that scored it died; it may have lacked memory")
        raise BatchError(f"part {task.number}: {kind} on a worker, whose log says more")
