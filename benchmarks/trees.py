"""What the trees, the reasons and the stages of a request cost, one at a time, on many different applications."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from benchmarks.decisions import Pool, stored_as
from benchmarks.errors import BenchmarkError
from benchmarks.results import record
from decision_log.format import Caller
from features.drawing import records_of
from features.files import open_file
from features.transformer import Columns
from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.model import NativeBooster
from scoring.scorer import Scorer
from scoring.trees import read_trees
from serving.batch_body import decode_batch
from serving.schemas import Requests, decisions, decode
from serving.variants import told

Matrix = NDArray[np.float64]
_BATCHES = (1, 8, 16, 64, 1_000, 10_000)
_SLOW_ROWS = 100
"""Rows on which LightGBM's contributions are timed, which take it ten times as long as a margin."""
_ANY_LEAVES = 1 << 20
_REPETITIONS = 5
_BATCH_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor time of one application in microseconds, the least of several repetitions over the same rows."""

    what: str
    trees: int
    leaves: int
    batch: int
    us: float
    ns_per_tree: float


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Processor time of one application in one stage of a request, in microseconds."""

    stage: str
    batch: int
    us: float


def measure_trees(artefact: Path, applications: Path, *, rows: int, progress: Progress) -> list[Timing]:
    """Time margins on `rows` different applications, and reasons where the model has tables for them."""
    scorer = Scorer(Artefact.read(artefact))
    matrix = Pool.of(scorer, applications).matrix[:rows]
    text, explainer = scorer.artefact.model_text, scorer.explainer
    booster = NativeBooster(text, threads=1)
    single, leaves = (
        booster.single_row(),
        max((len(tree.value) for tree in read_trees(text, _ANY_LEAVES) or ()), default=0),
    )
    if not np.array_equal(scorer.model.margins(matrix), booster.margins(matrix)):
        raise BenchmarkError("the model and LightGBM give different margins")
    found = []
    with progress.step(f"margins and reasons of {booster.trees} trees"):
        for batch in _BATCHES:
            timed: list[tuple[str, Callable[[Matrix], object], Matrix]] = [
                ("margin", scorer.model.margins, matrix),
                ("margin, LightGBM", single if batch == 1 else booster.margins, matrix),
            ]
            if scorer.model.tables is not None and explainer is not None:
                timed += [
                    ("contributions, tables", explainer.contributions.of, matrix[:_BATCH_ROWS]),
                    ("reasons", explainer.reasons, matrix[:_BATCH_ROWS]),
                    ("contributions, LightGBM", booster.contributions, matrix[:_SLOW_ROWS]),
                ]
            for what, function, part in timed:
                us = 1e6 * _least(function, part, batch)
                ns = round(1e3 * us / booster.trees, 1)
                found.append(Timing(what, booster.trees, leaves, batch, round(us, 1), ns))
    return found


def _least(function: Callable[[Matrix], object], matrix: Matrix, batch: int) -> float:
    """Seconds for a row."""
    parts = [np.ascontiguousarray(matrix[at : at + batch]) for at in range(0, len(matrix), batch)]
    return min(_spent(function, parts) for _ in range(_REPETITIONS)) / len(matrix)


def _spent(function: Callable[[Any], object], given: Sequence[Any]) -> float:
    started = time.thread_time()
    for one in given:
        function(one)
    return time.thread_time() - started


def measure_stages(artefact: Path, applications: Path, *, rows: int, progress: Progress) -> list[StageTiming]:
    """Time each stage of requests of one application, and of batches of 1,000, on `rows` different applications."""
    artefact_read = Artefact.read(artefact)
    columns = next(iter(open_file(applications, artefact_read.portfolio).batches(rows))).columns
    stages = _Stages(Scorer(artefact_read))
    bodies = [to_json({"client_id": str(i), "application": one}) for i, one in enumerate(records_of(columns))]
    batches = [bodies[at : at + _BATCH_ROWS] for at in range(0, len(bodies), _BATCH_ROWS)]
    with progress.step("stages"):
        return [
            *stages.timed(bodies, stages.single, 1),
            *stages.timed(
                [b'{"applications":[' + b",".join(one) + b"]}" for one in batches], stages.batch, len(batches[0])
            ),
        ]


class _Stages:
    """The stages of a request, one after the other, so that each finds the caches as others left them."""

    def __init__(self, scorer: Scorer) -> None:
        self._model = stored_as(scorer)
        self._requests = Requests(scorer.artefact.portfolio)
        self._told = told(self._model, "en")

    def timed(
        self, bodies: Sequence[bytes], run: Callable[[bytes, dict[str, list[float]]], int], batch: int
    ) -> list[StageTiming]:
        """The median over the bodies of each stage, and of all of them together."""
        spent: dict[str, list[float]] = {}
        for _ in range(_REPETITIONS):
            for body in bodies:
                began = time.thread_time()
                count = run(body, spent)
                spent.setdefault("all", []).append((time.thread_time() - began) / count)
        return [StageTiming(stage, batch, round(1e6 * float(np.median(one)), 1)) for stage, one in spent.items()]

    def single(self, body: bytes, spent: dict[str, list[float]]) -> int:
        """One request of one application."""
        clock = _Clock(spent, 1)
        request = decode(self._requests.predict, body)
        clock.stop("decode")
        columns = self._requests.applications.columns_of([request.application])
        clock.stop("columns")
        self._decided(columns, [Caller("0" * 32, request.client_id)], clock)
        return 1

    def batch(self, body: bytes, spent: dict[str, list[float]]) -> int:
        """One request of a batch; the columns are a part of its decoding."""
        clock = _Clock(spent, body.count(b'"client_id"'))
        rows, columns = decode_batch(body, self._requests, limit=_BATCH_ROWS, item_bytes=1 << 16)
        clock.stop("decode")
        self._decided(columns, [Caller("0" * 32, rows.client_ids[place]) for place in rows.positions], clock)
        return rows.size

    def _decided(self, columns: Columns, callers: Sequence[Caller], clock: _Clock) -> None:
        scorer = self._model.scorer
        matrix = scorer.transformer.transform(columns)
        clock.stop("features")
        margins = scorer.model.margins(matrix)
        clock.stop("trees")
        scores = scorer.decide(matrix, margins, with_reasons=False)
        clock.stop("decide")
        cutoff = scorer.artefact.policy.cutoff
        to_json(decisions(scores, callers, model_version=self._model.version, threshold=cutoff, told=self._told))
        clock.stop("encode")


class _Clock:
    """Notes the processor time of each stage, divided by the applications."""

    def __init__(self, spent: dict[str, list[float]], applications: int) -> None:
        self._spent, self._applications = spent, applications
        self._since = time.thread_time()

    def stop(self, stage: str) -> None:
        now = time.thread_time()
        self._spent.setdefault(stage, []).append((now - self._since) / self._applications)
        self._since = time.thread_time()


def record_timings(found: Sequence[Timing] | Sequence[StageTiming], command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(output, command, timings=[asdict(each) for each in found])
