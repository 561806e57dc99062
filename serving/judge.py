"""The judge of a challenger in shadow: it decides on blocks of applications, compares, and records.

The applications are offered in memory that the process of a judge can share.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, groupby, product
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from decision_log.format import Caller
from decision_log.writer import Failure
from features.portfolio import Portfolio
from features.store import HistorySource
from features.transformer import Columns
from monitoring.recorder import DecisionRecords
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from scoring.store import StoredModel

_NOTE_BYTES = 1024
"""Bytes kept for the note of one application, on average; with the longest of Home Credit's texts it takes 500."""
_PIECE = 256
"""Applications after which a judge lets others have its processor: nice alone lets them wait for the next tick of the
scheduler, milliseconds later."""
_FOLDER_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the file has no name there


class RowShape(NamedTuple):
    """How many applications wait at most, and how many numbers each has.

    `raw` says whether these are the raw numeric columns, with the texts of the others in the notes, or a row of the
    champion's model matrix, for a challenger with the same features.
    """

    room: int
    width: int
    raw: bool

    @classmethod
    def of(cls, champion: StoredModel, room: int, *, same_features: bool) -> Self:
        """The shape of what a challenger of this champion reads."""
        scorer = champion.scorer
        if same_features:
            return cls(room, len(scorer.features), raw=False)
        return cls(room, len(scorer.artefact.portfolio.schema.numeric), raw=True)

    @property
    def bytes(self) -> int:
        """Of the memory of so many applications: their numbers, the champion's PDs, and their notes."""
        return self.room * ((self.width + 1) * np.dtype(np.float64).itemsize + _NOTE_BYTES)


class RowMemory:
    """Memory for applications, in two halves: one is filled while the other is decided on.

    Another process maps it by its descriptor, so that nothing is sent: while a thread of the service makes a message
    of applications, requests wait for the lock of the interpreter.
    """

    def __init__(self, shape: RowShape, descriptor: int | None = None) -> None:
        # Allocated once: keeping the arrays of requests instead would scatter memory among them, which makes the next
        # requests slower.
        size = 2 * shape.bytes
        self._file = _file_in_memory(size) if descriptor is None else os.fdopen(descriptor, "r+b")
        mapped = np.frombuffer(mmap.mmap(self._file.fileno(), size), np.uint8)
        self.halves = tuple(OfferedRows(shape, number, half) for number, half in enumerate(np.split(mapped, 2)))

    @property
    def descriptor(self) -> int:
        """What another process opens the memory by."""
        return self._file.fileno()


def _file_in_memory(size: int) -> BinaryIO:
    """An unnamed file of so many bytes: on no disk, where the system allows that. OSError if there is no room."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # some sandboxes refuse it
            file = os.fdopen(os.memfd_create("rows"), "r+b")
            file.truncate(size)
            return file
    with suppress(OSError):
        return _written(size, _FOLDER_IN_MEMORY)
    return _written(size, None)


def _written(size: int, folder: Path | None) -> BinaryIO:
    # Written and not truncated: a later write into a page that has no room would end the worker.
    with ExitStack() as unless_full:
        file = unless_full.enter_context(tempfile.TemporaryFile(dir=folder))
        file.write(bytes(size))
        file.flush()
        unless_full.pop_all()
    return file


class OfferedRows:
    """Applications that the champion has decided, in one half of the memory.

    Parameters
    ----------
    half : which one it is
    memory : uint8, shape (shape.bytes,)

    Attributes
    ----------
    numbers : float64, shape (room, width), see `RowShape`
    probability : float64, shape (room,), the champion's
    used : how many bytes the notes take
    """

    def __init__(self, shape: RowShape, half: int, memory: NDArray[np.uint8]) -> None:
        floats = shape.room * (shape.width + 1)
        numbers, self._notes = np.split(memory, [floats * np.dtype(np.float64).itemsize])
        self.numbers = numbers.view(np.float64)[: shape.room * shape.width].reshape(shape.room, shape.width)
        self.probability = numbers.view(np.float64)[shape.room * shape.width :]
        self.half = half
        self.raw = shape.raw
        self.used = 0
        self._text = memoryview(self._notes)  # type: ignore[arg-type]
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def put(
        self, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> bool:  # fmt: skip
        """Copy applications behind those that are there; False, and nothing is copied, without room for their note."""
        levels = columns.levels.tolist() if self.raw and columns is not None else ()
        reasons = [given[0].code if given else None for given in scores.reasons.tolist()]
        # Plain tuples and texts: a named tuple and an enumeration take three times as long to write.
        plain, decisions = [*map(tuple, callers)], [*map(str, scores.decision.tolist())]
        note = to_json((route, plain, decisions, reasons, levels)) + b","
        start, end = self._rows, self.used + len(note)
        if end > len(self._text):
            return False
        rows = slice(start, start + len(callers))
        self.numbers[rows] = columns.numbers if self.raw and columns is not None else matrix
        self.probability[rows] = scores.probability
        self._text[self.used : end] = note
        self._rows, self.used = rows.stop, end
        return True

    def told(self) -> Told:
        """What is kept of the applications beside their numbers."""
        notes = from_json(b"[%b]" % bytes(self._text[: self.used]).removesuffix(b","))
        routes = [note[0] for note in notes for _ in note[1]]
        return Told(routes, *(list(chain.from_iterable(note[item] for note in notes)) for item in range(1, 5)))

    def filled(self, rows: int, used: int) -> Self:
        """The same half, in which another process has put so many applications."""
        self._rows, self.used = rows, used
        return self

    def forget(self) -> None:
        """Let go of what belongs to applicants."""
        self.numbers[: self._rows], self.probability[: self._rows], self._notes[: self.used] = np.nan, np.nan, 0
        self._rows = self.used = 0


CallerValues = list[Any]
"""The values of a Caller, as JSON has them."""


class Told(NamedTuple):
    """What is kept of applications beside their numbers; item i of every list is application i.

    Attributes
    ----------
    decisions, reasons : the champion's, and the code of the first reason of its decline; None without one
    levels : of the raw columns that are no numbers; empty where the challenger reads the champion's matrix
    """

    routes: list[str]
    callers: list[CallerValues]
    decisions: list[str]
    reasons: list[str | None]
    levels: list[list[str | None]]


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
    def of(cls, champion: OfferedRows, told: Told, challenger: Sequence[Scores]) -> Self:
        """The comparison of a block with the challenger's scores, in pieces; ValueError for scores of other rows."""
        decisions = chain.from_iterable(scores.decision.tolist() for scores in challenger)
        reasons = chain.from_iterable(scores.reasons.tolist() for scores in challenger)
        pairs = Counter(zip(told.decisions, decisions, strict=True))
        firsts = zip(told.reasons, reasons, strict=True)
        return cls(
            len(champion),
            {pair: pairs[pair] for pair in product(DecisionKind, DecisionKind)},
            float(champion.probability[: len(champion)].sum()),
            sum(float(scores.probability.sum()) for scores in challenger),
            sum(bool(was and found and was != found[0].code) for was, found in firsts),
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
        self._decided: list[_Piece] = []

    def memory(self, shape: RowShape) -> RowMemory:
        """The memory for the rows of all blocks."""
        return RowMemory(shape)

    def begin(self) -> None:
        """It is ready."""

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block, whatever the challenger raises."""
        self._decided = []
        told = rows.told()
        os.sched_yield()
        decided = [self._piece(rows, told, slice(start, start + _PIECE)) for start in range(0, len(rows), _PIECE)]
        compared = ComparedBlock.of(rows, told, [piece.scores for piece in decided])
        self._decided = decided
        return compared

    def _piece(self, rows: OfferedRows, told: Told, part: slice) -> _Piece:
        scorer, numbers = self._served.scorer, rows.numbers[: len(rows)][part]
        matrix = numbers if not rows.raw else scorer.transformer.transform(self._columns(numbers, told.levels[part]))
        scores = scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=self._with_reasons)
        os.sched_yield()
        return _Piece(told.routes[part], told.callers[part], matrix, scores)

    def _columns(self, numbers: NDArray[np.float64], levels: list[list[str | None]]) -> Columns:
        shape = len(levels), len(self._portfolio.schema.categorical)
        return Columns(numbers, np.array(levels, dtype=object).reshape(shape), self._portfolio)

    def record(self) -> int:
        """Record the block decided last; returns how many of its lines were lost."""
        decided, self._decided = self._decided, []
        if self._records is None:
            return 0
        at, records = self._clock(), self._records
        return sum(piece.recorded(records, at) for piece in decided)

    def close(self) -> None:
        """Close the log, if there is one."""
        if self._records is not None:
            self._records.close()


class _Piece(NamedTuple):
    """Applications that are decided together, and then recorded together."""

    routes: list[str]
    callers: list[CallerValues]
    matrix: NDArray[np.float64]
    scores: Scores

    def recorded(self, records: DecisionRecords, at: float) -> int:
        """Record them; returns how many lines were lost."""
        lost = start = 0
        for route, group in groupby(self.routes):
            part = slice(start, start := start + len(list(group)))
            callers = [_caller(*caller) for caller in self.callers[part]]
            lines = records.lines(route, callers, self.matrix[part], self.scores.take(part), at)
            if isinstance(records.append(lines), Failure):
                lost += len(callers)
        os.sched_yield()
        return lost


def _caller(request: str, client: str | None, position: int, history: str | None) -> Caller:
    return Caller(request, client, position, None if history is None else HistorySource(history))
