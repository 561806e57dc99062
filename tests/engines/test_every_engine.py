"""One probability for each application, bit for bit, whatever scores it: processes, shards, Dask, chunks of any size.

ENGINE_APPLICATIONS says how many, and ENGINE_RESULTS where the figures go: `make engines-check`. Only there the service
itself is asked for each of them, and workers of Dask are timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from credit_scoring_client.client import Client
from numpy.typing import NDArray

from deploy.record import add_result
from scoring.cluster import DaskEngine
from scoring.engines import Engine, InProcess, ProcessPool, Shard, run_job
from scoring.store import load_folder
from tests.engines.books import COMMAND, IDENTIFIER, RESULTS, Book, decided
from tests.engines.dask_cluster import running_cluster
from tests.scoring.jobs import job_of

BATCH = 1_000
TIMES = 3
TIMED_ROWS = 3_000_000


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, folder: Path) -> Path:
    """The folder of the model: of the one that the service has delivered, where the service is asked."""
    if RESULTS is None:
        return folder
    from bentoml.models import get

    return Path(get(request.getfixturevalue("delivered").tag).path)


def served(book: Book, url: str) -> NDArray[np.float64]:
    """What the service answers, in the order of the identifiers."""
    rows = book.applications.sort_by(IDENTIFIER).drop_columns([IDENTIFIER])
    with Client(url) as client:
        return np.array([
            decision.probability
            for start in range(0, rows.num_rows, BATCH)
            for decision in client.predict_batch(rows.slice(start, BATCH).to_pylist()).results
        ])  # fmt: skip


def different(output: Path, expected: NDArray[np.float64]) -> int:
    """How many rows have not the bits that are expected."""
    return int(np.count_nonzero(decided(output)[1].view(np.int64) != expected.view(np.int64)))


def test_every_engine_gives_the_bits_of_the_service(
    request: pytest.FixtureRequest, book: Book, model: Path, tmp_path: Path
) -> None:
    stored = load_folder(model)
    expected = book.probabilities(stored.scorer)
    found: dict[str, int] = {}
    if RESULTS:
        answers = served(book, request.getfixturevalue("server").url)
        found["service"] = int(np.count_nonzero(answers.view(np.int64) != expected.view(np.int64)))

    def scored(name: str, engine: Engine, *shards: Shard, **options: int) -> None:
        output = tmp_path / name.replace(" ", "-")
        for shard in shards or (Shard(),):
            run_job(job_of(book.folder, output, stored, reference=str(model), **options), engine, shard=shard)
        found[name] = different(output, expected)

    scored("one process", InProcess(stored), chunk_rows=997)
    scored("two processes", ProcessPool(2), part_rows=book.applications.num_rows // 20)
    scored("shards from the last to the first", InProcess(stored), Shard(2, 3), Shard(1, 3), Shard(0, 3), chunk_rows=61)
    if RESULTS:
        with running_cluster(tmp_path / "cluster") as cluster, cluster.workers(2):
            scored("two workers of dask", DaskEngine(cluster.address), chunk_rows=4_099)
        rows = {"rows": book.applications.num_rows, "distinct": len(np.unique(expected))}
        add_result(Path(RESULTS), COMMAND, "rows that differ", {**rows, **found})
    assert set(found.values()) == {0}, found


@pytest.mark.skipif(RESULTS is None, reason="it needs two idle processors: `make engines-check`")
def test_two_workers_of_dask_are_faster_than_one(model: Path, tmp_path: Path) -> None:
    stored = load_folder(model)
    book = Book.written(tmp_path / "timed", TIMED_ROWS)
    found: dict[int, list[Spent]] = {1: [], 2: []}
    with (
        running_cluster(tmp_path / "one") as one,
        running_cluster(tmp_path / "two") as two,
        one.workers(1) as alone,
        two.workers(2) as both,
    ):
        for repetition in range(TIMES + 1):  # the first time each worker loads the model
            for count, cluster, workers in ((1, one, alone), (2, two, both)):
                job = job_of(book.folder, tmp_path / f"scores-{count}-{repetition}", stored, reference=str(model))
                run = partial(run_job, job, DaskEngine(cluster.address))
                found[count].append(spent(run, [worker.pid for worker in workers]))
    single, double = (Spent(*map(statistics.median, zip(*found[count][1:], strict=True))) for count in (1, 2))
    result = {
        "rows": TIMED_ROWS,
        "seconds of one worker": round(single.seconds, 2),
        "seconds of two workers": round(double.seconds, 2),
        "times as fast": round(single.seconds / double.seconds, 2),
        "processor seconds of one worker, and of its command": [round(single.busiest, 2), round(single.command, 2)],
        "processor seconds of the busier of two, and of their command": [
            round(double.busiest, 2),
            round(double.command, 2),
        ],
        "times as fast, in processor time": round(single.longest / double.longest, 2),
        "load of the machine": round(psutil.getloadavg()[0], 1),
    }
    add_result(Path(str(RESULTS)), COMMAND, "workers of dask", result)


class Spent(NamedTuple):
    """What a job has taken: time, processor time of its busiest worker, and that of the command."""

    seconds: float
    busiest: float
    command: float

    @property
    def longest(self) -> float:
        """The time that the job would take where nobody else wants the processors and nothing overlaps."""
        return self.busiest + self.command


def spent(work: Callable[[], object], pids: list[int]) -> Spent:
    """What some work takes, with workers of these pids."""

    def processor() -> list[float]:
        return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]

    began, before, own = time.monotonic(), processor(), time.process_time()
    work()
    used = [after - earlier for after, earlier in zip(processor(), before, strict=True)]
    return Spent(time.monotonic() - began, max(used), time.process_time() - own)
