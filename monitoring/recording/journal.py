"""The decision log as the recorder sees it: lines of one model, and what happens where they cannot be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.decision import Caller, ClientHash, Header, LineFormat
from monitoring.segments import WorkerId, oldest_held
from scoring import Scores

from .log import DecisionLog, Failure, Position
from .settings import LogSettings, OnFailure


class Journal:
    """Formats and writes the lines of one model; DecisionLogError if no log can be kept in `directory`."""

    def __init__(
        self,
        directory: Path,
        worker: WorkerId,
        header: Header,
        settings: LogSettings,
        client_hash: ClientHash | None,
    ) -> None:
        self._directory = directory
        self._host = worker.host
        self._format = LineFormat(header, client_hash)
        self._log = DecisionLog(directory, worker, header.line(), settings)
        self.refuses = settings.on_failure is OnFailure.REFUSE

    def lines(
        self,
        route: str,
        callers: Sequence[Caller],
        matrix: NDArray[np.float64],
        scores: Scores,
        time: float,
    ) -> bytes:
        """The lines of decisions; see `decision.LineFormat`."""
        return self._format.lines(route, callers, matrix, scores, time)

    def append(self, lines: bytes) -> Position | Failure:
        """Write the lines; where they end, or why they are not there."""
        return self._log.append(lines)

    def age(self, now: float) -> float:
        """Seconds since the first line of the oldest segment that a worker of this host writes; 0 if there is none."""
        begun = oldest_held(self._directory, self._host)
        return 0.0 if begun is None else max(0.0, now - begun.timestamp())

    def close(self) -> None:
        """Finish the segments."""
        self._log.close()
