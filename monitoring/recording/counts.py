"""The drift counts of one worker, in a mapped file that outlives it, and those of all workers together.

A file holds two copies of the counts. The next state is written into the copy that is not in use, and then one number
says that it is: whenever the worker is killed, what is in use is whole. With the counts goes the place in the decision
log that they reach to, so that what a killed worker had written but not counted can be counted later; see `replay`.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import Window
from scoring import DriftReference

from .log import Position

SUFFIX = ".counts"
_HOUR = 3600
_START = Position(0, 0)
_MOST = 1 << 48
_NUMBER_BYTES = 8
_FOLDER, _FILE = 0o700, 0o600


@dataclass(slots=True, eq=False)
class Counts:
    """What was scored since the start: over the bins of the drift reference, and hour by hour.

    Attributes
    ----------
    window : the drift counts
    hours : int64, shape (h,), which hours since 1970 the next two are of; 0 is none
    hour_rows, hour_pds : how many applications were scored in it, and the sum of their PDs
    position : how far into the decision log of the worker this reaches
    """

    window: Window
    hours: NDArray[np.int64]
    hour_rows: NDArray[np.int64]
    hour_pds: NDArray[np.float64]
    position: Position = _START

    @classmethod
    def none(cls, reference: DriftReference, days: int) -> Self:
        """No counts; there is room for so many days."""
        size = days * 24
        window = Window(np.zeros_like(reference.counts), np.zeros(reference.probability.size, dtype=np.int64))
        return cls(window, np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64), np.zeros(size))

    def add(self, window: Window, pds: float, *, at: float) -> None:
        """Add applications that were scored at a time, in seconds since 1970, with the sum of their PDs."""
        self.window += window
        self._add_hour(int(at // _HOUR), window.rows, pds)

    def _add_hour(self, hour: int, rows: int, pds: float) -> None:
        slot = hour % len(self.hours)
        if hour > self.hours[slot]:
            self.hours[slot], self.hour_rows[slot], self.hour_pds[slot] = hour, 0, 0.0
        if hour == self.hours[slot]:
            self.hour_rows[slot] += rows
            self.hour_pds[slot] += pds

    def merge(self, other: Counts) -> None:
        """Add what another worker has counted."""
        self.window += other.window
        for hour, rows, pds in zip(
            other.hours.tolist(), other.hour_rows.tolist(), other.hour_pds.tolist(), strict=True
        ):
            self._add_hour(hour, rows, pds)

    def recent(self, now: float) -> tuple[int, float]:
        """How many applications were scored in the last hours that there is room for, and the sum of their PDs."""
        within = self.hours > now // _HOUR - len(self.hours)
        return int(self.hour_rows[within].sum()), float(self.hour_pds[within].sum())


class CountsFile:
    """The file of one worker, locked as long as it is open. It is made where there is none."""

    def __init__(self, path: Path, counts: Counts) -> None:
        self._path = path
        self._kind = _kind(counts)
        self._open()

    def publish(self, counts: Counts) -> None:
        """Replace the counts."""
        self._mend()
        number = int(self._content["number"]) + 1
        copy = self._content["copies"][number % 2]
        copy["features"], copy["probability"] = counts.window.features, counts.window.probability
        copy["hours"], copy["hour_rows"], copy["hour_pds"] = counts.hours, counts.hour_rows, counts.hour_pds
        copy["position"] = counts.position.segment, counts.position.offset
        self._content["number"] = number

    def _mend(self) -> None:
        """Have the whole file in its place: to write into a mapped page that is gone would end the process."""
        size = self._kind.itemsize
        try:
            there = os.path.samestat(os.lstat(self._path), os.fstat(self._file.fileno()))
        except OSError:
            there = False
        if there and os.fstat(self._file.fileno()).st_size == size:
            return
        if not there:
            self._file.close()
            with suppress(FileNotFoundError, IsADirectoryError):
                self._path.unlink()
            self._open()
        self._file.truncate(size)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, _FILE), "r+b")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.truncate(self._kind.itemsize)
        self._content = np.memmap(self._file, dtype=self._kind, mode="r+", shape=(1,))[0]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def read_counts(path: Path, empty: Counts) -> Counts:
    """The counts that a worker published last; `empty` says over which bins. ValueError or OSError if it has none."""
    kind = _kind(empty)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != kind.itemsize:
            raise ValueError("not a file of counts over these bins")
        while True:  # the worker may write into what is read
            content = os.pread(descriptor, kind.itemsize, 0)
            if os.pread(descriptor, _NUMBER_BYTES, 0) == content[:_NUMBER_BYTES]:
                whole = np.frombuffer(content, kind)[0]
                return _plausible(_counts(whole["copies"][int(whole["number"]) % 2].copy()))
    finally:
        os.close(descriptor)


def _plausible(counts: Counts) -> Counts:
    """The counts; ValueError if they contradict themselves: the file was damaged."""
    rows = counts.window.probability.sum()
    whole = (counts.window.features, counts.window.probability, counts.hours, counts.hour_rows, *counts.position)
    if not all(np.all((np.asarray(each) >= 0) & (np.asarray(each) < _MOST)) for each in whole):
        raise ValueError("counts out of bounds")
    if not np.all(counts.window.features.sum(axis=1) == rows):
        raise ValueError("counts of features differ")
    if not np.all((counts.hour_pds >= 0) & (counts.hour_pds <= counts.hour_rows + 1)):
        raise ValueError("sums of PDs out of bounds")
    return counts


def _kind(counts: Counts) -> np.dtype[Any]:
    """The layout of a file. All zeros are no counts."""
    hours = counts.hours.shape
    copy = np.dtype(
        [
            ("features", "<i8", counts.window.features.shape),
            ("probability", "<i8", counts.window.probability.shape),
            ("hours", "<i8", hours),
            ("hour_rows", "<i8", hours),
            ("hour_pds", "<f8", hours),
            ("position", "<i8", (2,)),
        ]
    )
    return np.dtype([("number", "<i8"), ("copies", copy, (2,))])


def _counts(copy: Any) -> Counts:
    segment, offset = copy["position"].tolist()
    return Counts(
        Window(copy["features"], copy["probability"]),
        copy["hours"],
        copy["hour_rows"],
        copy["hour_pds"],
        Position(segment, offset),
    )
