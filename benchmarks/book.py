"""The whole book: how long the decisions on millions of applications take, and in how much memory.

The job is `python -m scoring batch`, from files to files. Beside it run LightGBM alone on a ready matrix, and the
pipeline of pandas and scikit-learn of the original design, from files to files too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset, parquet

from benchmarks.applications import write_book
from benchmarks.comparison import Prepared, ready
from benchmarks.errors import BenchmarkError
from benchmarks.peer import ORIGINAL
from benchmarks.process import JobCost, run_job
from benchmarks.results import Recorded
from benchmarks.settings import BenchmarkSettings, BookSettings
from benchmarks.store import ROOT, Store
from features.files import open_file
from features.transformer import concatenate
from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.scorer import Scorer

Matrix = NDArray[np.float64]
_BLOCK = 50_000
"""Rows of the ready matrix in one call."""
_CHECKED = 1_000
"""Decisions of a job that are compared with the scorer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What so many applications took.

    Attributes
    ----------
    us, cpu_us : wall and processor time for one application, microseconds
    peak_mb : the most memory of all processes together, proportional set size; 0 where it was not measured
    """

    what: str
    rows: int
    seconds: float
    us: float
    cpu_us: float
    peak_mb: float = 0.0

    @classmethod
    def of(cls, what: str, rows: int, cost: JobCost) -> Figure:
        """The figures of a cost."""
        return cls(
            what=what,
            rows=rows,
            seconds=round(cost.seconds, 2),
            us=round(1e6 * cost.seconds / rows, 3),
            cpu_us=round(1e6 * cost.cpu_seconds / rows, 3),
            peak_mb=round(cost.peak_mb, 1),
        )


@dataclass(frozen=True, kw_only=True)
class BookRecord(Recorded):
    """The results of `python -m benchmarks book`.

    Attributes
    ----------
    jobs : by size, the smallest first
    without_reasons : the job with --no-reasons, for a book of the second largest size
    booster : Booster.predict on a ready matrix, with as many threads as the job has workers
    one_thread : the trees of this project and Booster.predict, one thread each, block beside block
    declined : share of the largest job's applications
    stages_us : processor time of each stage of the largest job for one application, microseconds
    written_seconds : how long generating all applications took
    """

    jobs: tuple[Figure, ...]
    without_reasons: Figure
    booster: Figure
    pandas: Figure
    pandas_with_reasons: Figure
    one_thread: tuple[Figure, ...]
    declined: float
    stages_us: dict[str, float]
    written_seconds: float


def measure_book(
    store: Store, settings: BenchmarkSettings, progress: Progress, command: str, *, clean: bool
) -> BookRecord:
    """Write the books that the store lacks, and measure; with `clean` they are removed at the end."""
    plan, folder = settings.book, store.folder / "book"
    prepared = ready(store, settings, [ORIGINAL], progress, command)
    store.logs.mkdir(exist_ok=True)
    try:
        begun = time.perf_counter()
        sizes = dict.fromkeys([*plan.rows, plan.pandas_rows, plan.explained_rows])
        books = {rows: _written(folder, plan, rows, settings.seed, progress) for rows in sizes}
        written = time.perf_counter() - begun
        scored = [_scored(prepared, books[rows], rows, plan.cores, progress) for rows in plan.rows]
        second = plan.rows[-2:][0]
        plain = _scored(prepared, books[second], second, plan.cores, progress, with_reasons=False)
        with progress.step("LightGBM alone"):
            booster, *one_thread = _apart(time_trees, prepared.model.artefact, books[plan.rows[-1]], plan)
        pandas = _pandas(prepared, books[plan.pandas_rows], plan.pandas_rows, plan.cores, progress)
        declined = scored[-1].declined
        explained = _pandas(
            prepared, books[plan.explained_rows], plan.explained_rows, plan.cores, progress, explained=declined
        )
    finally:
        if clean:
            shutil.rmtree(folder, ignore_errors=True)
    return BookRecord(
        **prepared.provenance,
        jobs=tuple(one.figure for one in scored),
        without_reasons=plain.figure,
        booster=booster,
        pandas=pandas,
        pandas_with_reasons=explained,
        one_thread=tuple(one_thread),
        declined=round(declined, 4),
        stages_us=scored[-1].stages_us,
        written_seconds=round(written, 1),
    )


def _written(folder: Path, plan: BookSettings, rows: int, seed: int, progress: Progress) -> Path:
    """The folder with a book of so many applications."""
    book = folder / f"{rows}-{plan.file_rows}-{seed}"
    if not book.exists():
        folder.mkdir(exist_ok=True)
        with progress.step(f"{rows:,} applications", total=rows) as advance:
            write_book(book, rows=rows, file_rows=plan.file_rows, seed=seed, processes=plan.cores, progress=advance)
    return book


@dataclass(frozen=True, slots=True)
class _Scored:
    """A job that is done; see `BookRecord`."""

    figure: Figure
    declined: float
    stages_us: dict[str, float]


def _scored(
    prepared: Prepared, book: Path, rows: int, cores: int, progress: Progress, *, with_reasons: bool = True
) -> _Scored:
    """What the job takes for a book."""
    output = prepared.bench.store.folder / "book" / "decisions"
    shutil.rmtree(output, ignore_errors=True)
    tag = f"{prepared.model.name}:{prepared.model.artefact.name}"
    files = ["--input", str(book), "--output", str(output), "--model", tag]
    options = ["--workers", str(cores), "--reasons" if with_reasons else "--no-reasons"]
    command = [sys.executable, "-m", "scoring", "batch", *files, *options]
    what = "`python -m scoring batch`" if with_reasons else "`python -m scoring batch --no-reasons`"
    try:
        with progress.step(f"decisions on {rows:,} applications, {options[-1]}"):
            cost = _run(prepared, command, "batch", os.environ["PATH"])
        declined = check_decisions(prepared.model.scorer, book, output, rows)
        return _Scored(Figure.of(what, rows, cost), declined, stages(output, rows))
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _run(prepared: Prepared, command: list[str], name: str, path: str, **variables: str) -> JobCost:
    environment = {**os.environ, **prepared.bench.variables, "PYTHONPATH": str(ROOT), "PATH": path, **variables}
    return run_job(command, environment=environment, cwd=ROOT, log=prepared.bench.store.logs / f"{name}.log")


def check_decisions(scorer: Scorer, book: Path, output: Path, rows: int) -> float:
    """The share of declines; BenchmarkError unless every row has a decision, and the first ones the scorer's PDs."""
    parts = sorted(output.glob("part-*.parquet"))
    decided = dataset.dataset(parts, format="parquet")
    if decided.count_rows() != rows:
        raise BenchmarkError(f"{decided.count_rows()} decisions on {rows} applications")
    first = next(iter(open_file(min(book.iterdir()), scorer.artefact.portfolio).batches(_CHECKED)))
    given = parquet.ParquetFile(parts[0]).read_row_group(0, columns=["probability"])["probability"][: len(first)]
    if not np.array_equal(given.to_numpy(), scorer.score(first.columns).probability):
        raise BenchmarkError("the decisions are not the scorer's")
    declined: int = decided.count_rows(filter=pc.field("decision") == "decline")
    return declined / rows


def stages(output: Path, rows: int) -> dict[str, float]:
    """What the manifest says of the processor time of each stage, microseconds for one application."""
    spent = json.loads((output / "_manifest.json").read_text())["processor_seconds"]
    return {name: round(1e6 * seconds / rows, 3) for name, seconds in spent.items()}


def _pandas(
    prepared: Prepared, book: Path, rows: int, cores: int, progress: Progress, *, explained: float = 0.0
) -> Figure:
    """The pipeline of the original design, on the same cores, without its start."""
    environment, output = prepared.environments[ORIGINAL.name], prepared.bench.store.folder / "book" / "pandas.parquet"
    command = [environment.program("python"), "-m", "benchmarks.peers.original_design.batch", str(book), str(output)]
    command += [str(explained)] if explained else []
    with progress.step(f"pandas and scikit-learn on {rows:,} applications"):
        cost = _run(
            prepared, command, "pandas", f"{environment.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            OMP_NUM_THREADS=str(cores),
        )  # fmt: skip
    last = (prepared.bench.store.logs / "pandas.log").read_text().splitlines()[-1]
    took = JobCost(**json.loads(last), peak_mb=cost.peak_mb)
    what = "pandas and scikit-learn, reasons by LightGBM" if explained else "pandas and scikit-learn, no reasons"
    return Figure.of(what, rows, took)


def _apart(function: Callable[..., list[Figure]], *arguments: object) -> list[Figure]:
    """Run it in a new process, which has loaded nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def time_trees(artefact: Path, book: Path, plan: BookSettings) -> list[Figure]:
    """LightGBM with all threads; then this project's trees and LightGBM, one thread each."""
    scorer = Scorer(Artefact.read(artefact))
    blocks = _blocks(scorer, book, plan.matrix_rows)
    booster = lgb.Booster(model_str=scorer.artefact.model_text)

    def ours(block: Matrix) -> object:
        return scorer.model.margins(block)

    def predict(block: Matrix) -> object:
        return booster.predict(block, num_threads=1)

    def predict_on_all(block: Matrix) -> object:
        return booster.predict(block, num_threads=plan.cores)

    alone = {f"`Booster.predict` on a ready matrix, {plan.cores} threads": predict_on_all}
    timed = _timed(alone, blocks, plan.booster_rows)
    # One after the other on each block, so that what else the machine does meets both.
    single = {"trees of this project, one thread": ours, "`Booster.predict`, one thread": predict}
    return timed + _timed(single, blocks, 2 * plan.matrix_rows)


def _blocks(scorer: Scorer, book: Path, rows: int) -> list[Matrix]:
    """The matrix of the book's first applications, cut into blocks."""
    batches = open_file(min(book.iterdir()), scorer.artefact.portfolio).batches(_BLOCK)
    columns = concatenate([batch.columns for batch, _ in zip(batches, range(0, rows, _BLOCK), strict=False)])
    matrix = scorer.transformer.transform(columns)[:rows]
    return [np.ascontiguousarray(matrix[begin : begin + _BLOCK]) for begin in range(0, len(matrix), _BLOCK)]


def _timed(functions: Mapping[str, Callable[[Matrix], object]], blocks: list[Matrix], rows: int) -> list[Figure]:
    """What each function takes for about so many rows: the blocks, as often as it needs."""
    rounds = max(1, round(rows / sum(map(len, blocks))))
    for function in functions.values():
        function(blocks[0])
    spent = np.array([[_spent(function, block) for function in functions.values()] for block in blocks * rounds])
    done = rounds * sum(map(len, blocks))
    costs = [JobCost(float(wall), float(cpu), 0.0) for wall, cpu in spent.sum(axis=0)]
    return [Figure.of(what, done, cost) for what, cost in zip(functions, costs, strict=True)]


def _spent(function: Callable[[Matrix], object], block: Matrix) -> tuple[float, float]:
    """Wall and processor time of one call, seconds."""
    begun, cpu = time.perf_counter(), time.process_time()
    function(block)
    return time.perf_counter() - begun, time.process_time() - cpu
