"""The counts of all workers of a service together."""

from __future__ import annotations

from pathlib import Path

from monitoring.segments import WorkerId
from scoring import DriftReference

from .counts import SUFFIX, Counts, CountsFile, read_counts, rows_counted
from .replay import replay


class Board:
    """A directory in which each worker of a service publishes its counts, and where they are added up.

    Parameters
    ----------
    log : the decision log, None if there is none
    days : that the mean PD is kept for
    """

    def __init__(self, directory: Path, worker: WorkerId, reference: DriftReference, *, log: Path | None, days: int):
        self._directory = directory
        self._worker = worker
        self.reference = reference
        self._log = log
        self._days = days
        self._settled: set[Path] = set()
        self.counts = self.empty()
        self._file = CountsFile(directory / f"{worker}{SUFFIX}", self.counts)

    def publish(self) -> None:
        """Publish the counts of this worker."""
        self._file.publish(self.counts)

    def rows(self) -> int:
        """How many applications all workers have counted."""
        return sum(rows_counted(path, self.counts) for path in self._paths())

    def total(self) -> Counts:
        """The counts of all workers, those that have ended included; `position` means nothing."""
        self._settle()
        total = self.empty()
        for path in self._paths():
            total.merge(read_counts(path, total))
        return total

    def close(self) -> None:
        """Publish for the last time."""
        self.publish()
        self._file.close()

    def empty(self) -> Counts:
        """No counts."""
        return Counts.none(self.reference, self._days)

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob(f"*{SUFFIX}"))

    def _settle(self) -> None:
        """Count what workers that were killed had written but not counted."""
        if self._log is None:
            return
        for path in self._paths():
            worker = WorkerId.parse(path.stem)
            if worker == self._worker or path in self._settled:
                continue
            try:
                file = CountsFile(path, self.counts)
            except BlockingIOError:  # it lives, or another worker is about it
                continue
            counts = read_counts(path, self.counts)
            if replay(counts, self._log, worker, self.reference):
                file.publish(counts)
            file.close()
            self._settled.add(path)
