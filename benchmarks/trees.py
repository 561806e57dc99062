"""What the trees and the reasons of one application cost, by tables and by LightGBM itself, on many applications."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.decisions import Pool
from benchmarks.errors import BenchmarkError
from jobs.commandline import Progress
from jobs.output import write_json
from scoring.artefact import Artefact
from scoring.model import NativeBooster
from scoring.scorer import Scorer

Matrix = NDArray[np.float64]
_BATCHES = (1, 16, 64, 1_000)
_SLOW_ROWS = 100
"""Rows on which LightGBM's contributions are timed, which take it ten times as long as a margin."""
_REPETITIONS = 7


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor time of one application in microseconds, the least of several repetitions over the same rows."""

    what: str
    batch: int
    us: float
    ns_per_tree: float


def measure_trees(artefact: Path, applications: Path, *, rows: int, progress: Progress) -> list[Timing]:
    """Time margins and reasons on `rows` different applications; BenchmarkError for a model that has no tables."""
    scorer = Scorer(Artefact.read(artefact))
    if scorer.model.tables is None or scorer.explainer is None:
        raise BenchmarkError("the model has trees of more than eight leaves, or its portfolio declares no reasons")
    matrix = Pool.of(scorer, applications).matrix[:rows]
    booster = NativeBooster(scorer.artefact.model_text, threads=1)
    single, explainer = booster.single_row(), scorer.explainer
    found = []
    with progress.step("margins and reasons"):
        for batch in _BATCHES:
            native = single if batch == 1 else booster.margins
            if not np.array_equal(scorer.model.margins(matrix), booster.margins(matrix)):
                raise BenchmarkError("tables and LightGBM give different margins")
            timed: list[tuple[str, Callable[[Matrix], object], Matrix]] = [
                ("margin, tables", scorer.model.margins, matrix),
                ("margin, LightGBM", native, matrix),
                ("contributions, tables", explainer.contributions.of, matrix),
                ("reasons", explainer.reasons, matrix),
                ("contributions, LightGBM", booster.contributions, matrix[:_SLOW_ROWS]),
            ]
            found += [_timing(what, function, part, batch, booster.trees) for what, function, part in timed]
    return found


def _timing(what: str, function: Callable[[Matrix], object], matrix: Matrix, batch: int, trees: int) -> Timing:
    parts = [np.ascontiguousarray(matrix[at : at + batch]) for at in range(0, len(matrix), batch)]
    seconds = min(_spent(function, parts) for _ in range(_REPETITIONS)) / len(matrix)
    return Timing(what, batch, round(1e6 * seconds, 1), round(1e9 * seconds / trees, 1))


def _spent(function: Callable[[Matrix], object], parts: Sequence[Matrix]) -> float:
    started = time.thread_time()
    for part in parts:
        function(part)
    return time.thread_time() - started


def record_trees(found: Sequence[Timing], command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    values = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "timings": [asdict(each) for each in found],
    }
    write_json(output, values, indent=2)
