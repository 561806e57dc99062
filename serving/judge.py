"""The judge of a challenger in shadow: it decides on blocks of applications, compares, and records.

The applications are offered in memory that the process of a judge can share.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.format import Caller
from decision_log.writer import Failure
from features.portfolio import Portfolio
from features.reasons import Reason
from features.transformer import Columns
from monitoring.recorder import DecisionRecords
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from scoring.store import StoredModel

Objects = tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.object_], NDArray[np.object_], NDArray[np.object_]]


class RowShape(NamedTuple):
    """How many applications wait at most, and the columns of their arrays.

    `features` is that of the champion's model matrix, for a challenger with the same features; `numbers` and `levels`
    are those of the raw columns, for another one.
    """

    room: int
    features: int
    numbers: int
    levels: int

    @classmethod
    def of(cls, champion: StoredModel, room: int, *, same_features: bool) -> Self:
        """The shape of what a challenger of this champion reads."""
        schema, features = champion.scorer.artefact.portfolio.schema, len(champion.scorer.features)
        if same_features:
            return cls(room, features, 0, 0)
        return cls(room, 0, len(schema.numeric), len(schema.categorical))


@dataclass(frozen=True, slots=True, eq=False)
class OfferedRows:
    """Applications that the champion has decided; row i of every array is application i.

    Attributes
    ----------
    half, first : where the first row is in the memory of the numbers
    matrix, numbers, levels : what the challenger reads, see `RowShape`
    caller : object, the Caller as a plain tuple, which is sent in a tenth of the time
    route : object, the path of the request
    probability, decision : the champion's
    reason : object, the code of the first reason of the champion's decline; None without one
    """

    half: int
    first: int
    matrix: NDArray[np.float64]
    numbers: NDArray[np.float64]
    probability: NDArray[np.float64]
    levels: NDArray[np.object_]
    caller: NDArray[np.object_]
    route: NDArray[np.object_]
    decision: NDArray[np.object_]
    reason: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.route)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays: those of numbers, and those of objects."""
        return (self.matrix, self.numbers, self.probability, *self.objects)

    @property
    def objects(self) -> Objects:
        """The arrays of objects, which are sent."""
        return self.levels, self.caller, self.route, self.decision, self.reason

    def take(self, rows: slice) -> Self:
        """The chosen rows, not copied."""
        return type(self)(self.half, self.first + rows.start, *(array[rows] for array in self.arrays))

    def put(
        self, start: int, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Copy applications into the rows from `start` on; there must be room for them."""
        rows = slice(start, start + len(callers))
        if self.matrix.shape[1]:
            self.matrix[rows] = matrix
        elif columns is not None:
            self.numbers[rows], self.levels[rows] = columns.numbers, columns.levels
        if len(callers) == 1:  # NumPy takes twice as long to copy an array of one as to set its value
            self.route[start], self.caller[start] = route, tuple(callers[0])
            self.probability[start], self.decision[start] = scores.probability.item(), scores.decision.item()
            self.reason[start] = _first(scores.reasons.item())
            return
        self.route[rows] = route
        self.probability[rows], self.decision[rows] = scores.probability, scores.decision
        for row, (caller, reasons) in enumerate(zip(callers, scores.reasons.tolist(), strict=True), start):
            self.caller[row], self.reason[row] = tuple(caller), _first(reasons)

    def forget(self) -> None:
        """Let go of what belongs to applicants."""
        for array in self.arrays:
            array[:] = None if array.dtype == object else np.nan


def _first(reasons: Sequence[Reason]) -> str | None:
    return reasons[0].code if reasons else None


class RowMemory:
    """Memory for the numbers of rows, in two halves: one is filled while the other is decided on.

    Another process maps it by its descriptor, so that no number is sent: each piece that a thread sends makes requests
    wait for the lock of the interpreter.
    """

    def __init__(self, shape: RowShape, descriptor: int | None = None) -> None:
        self._shape = shape
        width = shape.features + shape.numbers + 1
        size = 2 * shape.room * width * np.dtype(np.float64).itemsize
        # Allocated once: keeping the arrays of requests instead would scatter memory among them, which makes the next
        # requests slower.
        self._file = _file_in_memory() if descriptor is None else os.fdopen(descriptor, "r+b")
        if descriptor is None:
            self._file.truncate(size)
        self._halves = np.frombuffer(mmap.mmap(self._file.fileno(), size), np.float64).reshape(2, shape.room * width)

    @property
    def descriptor(self) -> int:
        """What another process opens the memory by."""
        return self._file.fileno()

    def numbers(self, half: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The `matrix`, `numbers` and `probability` of all rows of a half."""
        room, features, numbers, _ = self._shape
        matrix, raw, probability = np.split(self._halves[half], [room * features, room * (features + numbers)])
        return matrix.reshape(room, features), raw.reshape(room, numbers), probability

    def empty(self, half: int) -> OfferedRows:
        """A half without rows."""
        levels = np.empty((self._shape.room, self._shape.levels), dtype=object)
        objects = (np.empty(self._shape.room, dtype=object) for _ in range(4))
        return OfferedRows(half, 0, *self.numbers(half), levels, *objects)

    def rows(self, half: int, first: int, objects: Objects) -> OfferedRows:
        """The rows that another process has put there, with the objects that it sent."""
        kept = slice(first, first + len(objects[0]))
        matrix, numbers, probability = self.numbers(half)
        return OfferedRows(half, first, matrix[kept], numbers[kept], probability[kept], *objects)


def _file_in_memory() -> BinaryIO:
    """An unnamed file: on no disk, where the system has such files."""
    return os.fdopen(os.memfd_create("rows"), "r+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


@dataclass(frozen=True, slots=True)
class ComparedBlock:
    """What a challenger would have decided on applications that the champion has decided.

    Attributes
    ----------
    decisions : how many there are of each pair of the champion's decision and the challenger's
    champion, challenger : sums of the PDs
    reasons : declines by both whose first reasons differ
    """

    rows: int
    decisions: Mapping[tuple[DecisionKind, DecisionKind], int]
    champion: float
    challenger: float
    reasons: int

    @classmethod
    def of(cls, champion: OfferedRows, challenger: Scores) -> Self:
        """The comparison of a block; ValueError for scores of other rows."""
        firsts = zip(champion.reason.tolist(), challenger.reasons.tolist(), strict=True)
        changed = sum(bool(was and reasons and was != reasons[0].code) for was, reasons in firsts)
        of_champion, of_challenger = (
            {kind: decisions == kind for kind in DecisionKind} for decisions in (champion.decision, challenger.decision)
        )
        return cls(
            len(champion),
            {
                (was, now): int(np.count_nonzero(of_champion[was] & of_challenger[now]))
                for was, now in product(DecisionKind, DecisionKind)
            },
            float(champion.probability.sum()),
            float(challenger.probability.sum()),
            changed,
        )


class ChallengerError(Exception):
    """What a challenger raised: the name of the error's type, since the error's text may hold an applicant's value."""


class Judge(Protocol):
    """Has a challenger decide on one block after the other."""

    def memory(self, shape: RowShape) -> RowMemory:
        """The memory for the rows of all blocks, asked for once."""
        ...

    def begin(self) -> None:
        """Get ready, before the first block."""
        ...

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block, whatever the challenger raises."""
        ...

    def record(self) -> int:
        """Record the block decided last; returns how many lines were lost since the last call."""
        ...

    def close(self) -> None:
        """Close the log, if there is one."""
        ...


class OwnJudge:
    """A judge in this process.

    Parameters
    ----------
    portfolio : the champion's, of raw columns
    records : writes the lines into the log of shadows; None where nothing is recorded
    with_reasons : whether declines carry reasons
    """

    def __init__(
        self,
        served: StoredModel,
        portfolio: Portfolio,
        records: DecisionRecords | None = None,
        *,
        with_reasons: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._served = served
        self._portfolio = portfolio
        self._records = records
        self._with_reasons = with_reasons
        self._clock = clock
        self._decided: tuple[OfferedRows, NDArray[np.float64], Scores] | None = None

    def memory(self, shape: RowShape) -> RowMemory:
        """The memory for the rows of all blocks."""
        return RowMemory(shape)

    def begin(self) -> None:
        """It is ready."""

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block, whatever the challenger raises."""
        scorer, matrix = self._served.scorer, rows.matrix
        if not matrix.shape[1]:
            matrix = scorer.transformer.transform(Columns(rows.numbers, rows.levels, self._portfolio))
        scores = scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=self._with_reasons)
        compared = ComparedBlock.of(rows, scores)
        self._decided = rows, matrix, scores
        return compared

    def record(self) -> int:
        """Record the block decided last; returns how many of its lines were lost."""
        decided, self._decided = self._decided, None
        if self._records is None or decided is None:
            return 0
        return _recorded(self._records, *decided, self._clock())

    def close(self) -> None:
        """Close the log, if there is one."""
        if self._records is not None:
            self._records.close()


def _recorded(
    records: DecisionRecords, rows: OfferedRows, matrix: NDArray[np.float64], scores: Scores, at: float
) -> int:
    lost = 0
    for route, group in groupby(range(len(scores)), key=rows.route.__getitem__):
        places = list(group)
        part = slice(places[0], places[-1] + 1)
        callers = list(map(Caller._make, rows.caller[part].tolist()))
        lines = records.lines(route, callers, matrix[part], scores.take(part), at)
        if isinstance(records.append(lines), Failure):
            lost += len(places)
    return lost
