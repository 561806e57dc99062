"""The counts of all workers of a service together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from features import printable
from monitoring.segments import WorkerId
from scoring import DriftReference

from .counts import SUFFIX, Counts, CountsFile, read_counts
from .replay import replay

_LOGGER = logging.getLogger("bentoml.credit_scoring")


class Board:
    """A directory in which each worker of a service publishes its counts, and where they are added up.

    Parameters
    ----------
    log : the decision log, None if there is none
    days : that the mean PD is kept for

    Attributes
    ----------
    passed_over : files beside the counts that are none, or damaged
    """

    def __init__(self, directory: Path, worker: WorkerId, reference: DriftReference, *, log: Path | None, days: int):
        self._directory = directory
        self._worker = worker
        self.reference = reference
        self._log = log
        self._days = days
        self._settled: set[Path] = set()
        self.passed_over: set[Path] = set()
        self.counts = self.empty()
        self._file = CountsFile(directory / f"{worker}{SUFFIX}", self.counts)

    def publish(self) -> None:
        """Publish the counts of this worker."""
        self._file.publish(self.counts)

    def rows(self) -> int:
        """How many applications all workers have counted."""
        return sum(counts.window.rows for counts in self._all())

    def total(self) -> Counts:
        """The counts of all workers, those that have ended included; `position` means nothing."""
        self._settle()
        total = self.empty()
        for counts in self._all():
            total.merge(counts)
        return total

    def _all(self) -> Iterator[Counts]:
        for path in self._paths():
            counts = self._counts(path)
            if counts is not None:
                yield counts

    def _counts(self, path: Path) -> Counts | None:
        """The counts in a file; None, and that is said once, where there are none."""
        try:
            counts = read_counts(path, self.counts)
        except (OSError, ValueError) as error:
            if path not in self.passed_over:
                _LOGGER.error("%s: no counts of a worker, passed over (%s)", printable(str(path)), type(error).__name__)  # noqa: TRY400 - one line
            self.passed_over.add(path)
            return None
        self.passed_over.discard(path)
        return counts

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
            worker = _worker(path)
            if worker in (None, self._worker) or path in self._settled or self._counts(path) is None:
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


def _worker(path: Path) -> WorkerId | None:
    """The worker whose counts a file is named after."""
    try:
        return WorkerId.parse(path.stem)
    except ValueError:
        return None
