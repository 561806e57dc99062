"""Counting what a worker had written into the decision log, but not counted, when it was killed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.decision import vectors
from monitoring.drift import Window
from monitoring.segments import WorkerId, read_lines
from scoring import DriftReference

from .counts import Counts
from .log import Position

_ROWS = 1000
"""Lines that are counted at once."""


def replay(counts: Counts, log: Path, worker: WorkerId, reference: DriftReference) -> int:
    """Add to the counts of a worker what is in its open segments beyond their position; how many lines that was."""
    added = 0
    segment, offset = counts.position.segment, counts.position.offset
    while (path := worker.segment(log, segment)).exists():
        for lines in _chunks(read_lines(path, offset)):
            pds = [line["probability"] for line in lines]
            window = Window.of(reference, vectors(lines), np.array(pds))
            counts.add(window, sum(pds), at=datetime.fromisoformat(lines[-1]["time"]).timestamp())
            added += len(lines)
        segment, offset = segment + 1, 0
    counts.position = Position(segment, 0)
    return added


def _chunks(lines: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(lines, _ROWS)):
        yield chunk
