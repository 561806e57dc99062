"""How often the drift judgement raises an alarm without drift, against the artefact's own reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.decisions import Pool
from benchmarks.results import record
from benchmarks.simulation import ReferencePopulation, Simulated, simulate
from jobs.commandline import Progress
from monitoring.settings import DriftSettings
from scoring.artefact import Artefact
from scoring.scorer import Scorer

_ROWS = (300, 1_000, 10_000)


def false_alarms(
    artefact: Path, applications: Path, settings: DriftSettings, *, windows: int, seed: int, progress: Progress
) -> list[Simulated]:
    """Windows of each size, drawn from applications of the population that the model was fitted on."""
    pool = Pool.of(Scorer(Artefact.read(artefact)), applications)
    population = ReferencePopulation(pool.scorer.artefact.reference, pool.matrix, pool.scores.probability)
    found = []
    for rows in _ROWS:
        with progress.step(f"{windows:,} windows of {rows:,} rows"):
            random = np.random.default_rng([seed, rows])
            found.append(simulate(population, settings, rows=rows, windows=windows, random=random))
    return found


def record_alarms(found: Sequence[Simulated], settings: DriftSettings, command: str, output: Path) -> None:
    """Write the rates with their command and date."""
    record(
        output,
        command,
        stated_rate=settings.false_alarm_rate,
        windows=[{**asdict(each), "rate": each.rate} for each in found],
    )
