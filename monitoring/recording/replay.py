"""Counting what a worker had written into the decision log, but not counted, when it was killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.decision import vectors
from monitoring.drift import Window
from monitoring.errors import SegmentError
from monitoring.segments import WorkerId, read_decisions, read_header
from scoring import DriftReference

from .counts import Counts
from .log import Position

_ROWS = 1000
"""Lines that are counted at once."""


def replay(counts: Counts, log: Path, worker: WorkerId, reference: DriftReference) -> int:
    """Add to the counts of a worker what is in its open segments beyond their position; how many lines that was."""
    added = 0
    start = counts.position
    for number, path in worker.segments(log).items():
        if number < start.segment:
            continue
        offset = start.offset if number == start.segment else 0
        with suppress(SegmentError, FileNotFoundError):  # `close` names it
            for lines in _chunks(_decisions(path, offset, reference)):
                pds = [line["probability"] for line in lines]
                window = Window.of(reference, vectors(lines), np.array(pds))
                counts.add(window, sum(pds), at=datetime.fromisoformat(lines[-1]["time"]).timestamp())
                added += len(lines)
        counts.position = Position(number + 1, 0)
    return added


def _decisions(path: Path, offset: int, reference: DriftReference) -> Iterator[dict[str, Any]]:
    header = read_header(path)
    if header is not None and header.features == tuple(reference.features):
        yield from read_decisions(path, header, offset)


def _chunks(lines: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(lines, _ROWS)):
        yield chunk
