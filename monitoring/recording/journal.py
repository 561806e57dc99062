"""The decision log as the recorder sees it: lines of one model, and what happens where they cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features import Heartbeat
from monitoring.decision import Caller, ClientHash, Header, LineFormat
from monitoring.segments import ASIDE, Ages, WorkerId
from scoring import Scores

from .log import DecisionLog, Failure, Position
from .settings import LogSettings, OnFailure


class Journal:
    """Formats and writes the lines of one model; DecisionLogError if no log can be kept in `directory`.

    Parameters
    ----------
    lost, heartbeat : see `log.DecisionLog`
    """

    def __init__(
        self,
        directory: Path,
        worker: WorkerId,
        header: Header,
        settings: LogSettings,
        client_hash: ClientHash | None,
        *,
        lost: Callable[[int], object],
        heartbeat: Heartbeat,
    ) -> None:
        self._directory = directory
        self._host = worker.host
        self._format = LineFormat(header, client_hash)
        self._log = DecisionLog(directory, worker, header.line(), settings, lost=lost, heartbeat=heartbeat)
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

    def ages(self, now: float) -> tuple[float, float]:
        """Seconds since the first line of the oldest segment that a worker of this host writes; 0 if there is none.

        And since the last line of the oldest segment that nobody writes any more and that is not closed.
        """
        ages = Ages.of(self._directory, self._host)
        written, finished = (0.0 if each is None else max(0.0, now - each.timestamp()) for each in ages)
        return written, finished

    def set_aside(self) -> int:
        """How many files are aside, since they are no whole segments."""
        try:
            return sum(1 for _ in (self._directory / ASIDE).iterdir())
        except OSError:
            return 0

    def fault(self) -> str | None:
        """Why decisions are refused, where they are for want of a line; None elsewhere."""
        failure = self._log.missing if self.refuses else None
        return None if failure is None else f"the decision log cannot be written ({failure})"

    def close(self) -> None:
        """Finish the segments."""
        self._log.close()
