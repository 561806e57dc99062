"""The process of a judge, and how the service asks it: no request waits for the lock of another interpreter."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

from features.portfolio import Portfolio
from jobs.errors import ProcessError
from monitoring.recorder import open_shadow_records
from monitoring.settings import RecordingSettings
from monitoring.windows import DecisionMetrics
from scoring.artefact import Artefact
from scoring.scorer import Scorer
from scoring.store import StoredModel
from serving.judge import ChallengerError, ComparedBlock, OfferedRows, OwnJudge, RowMemory, RowShape

_LOGGER = logging.getLogger("bentoml.credit_scoring")

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = "import sys; from serving.judge_process import serve; serve(*map(int, sys.argv[1:]))"
_DECIDE, _RECORD, _CLOSE = "decide", "record", "close"
_NICE = 19
"""The process takes the time that the requests leave; the policy SCHED_IDLE made answers later, measured."""
_RESTART_SECONDS = 10.0
"""Seconds from one start of the process to the next, where it ends by itself."""
_CLOSE_SECONDS = 5.0
"""Seconds that the process may take to close its log."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the process of a judge is told first.

    Attributes
    ----------
    variant : the challenger's name
    name, version, artefact : of its model, which the service has verified
    portfolio, champion : the champion's portfolio and version
    recording : None where nothing is recorded
    """

    variant: str
    name: str
    version: str
    artefact: Artefact
    portfolio: Portfolio
    champion: str
    recording: RecordingSettings | None
    with_reasons: bool

    @classmethod
    def of(
        cls,
        variant: str,
        served: StoredModel,
        champion: StoredModel,
        recording: RecordingSettings | None = None,
        *,
        with_reasons: bool = True,
    ) -> Self:
        """The opening for a challenger beside a champion."""
        artefact, portfolio = served.scorer.artefact, champion.scorer.artefact.portfolio
        return cls(
            variant, served.name, served.version, artefact, portfolio, champion.version, recording, with_reasons
        )  # fmt: skip

    def judge(self, lost: Callable[[int], object]) -> OwnJudge:
        """The judge, in the process that was told; lines that are lost after they were written are told to `lost`."""
        served, records = StoredModel(self.name, self.version, Scorer(self.artefact)), None
        if self.recording is not None:
            metrics = DecisionMetrics(self.champion, self.recording.probability_buckets, ())
            records = open_shadow_records(
                served, self.variant, self.recording, os.environ, metrics, lost, with_reasons=self.with_reasons
            )
        return OwnJudge(served, self.portfolio, records, with_reasons=self.with_reasons)


class JudgeProcess:
    """The judge as the service sees it. If its process ends, the next block starts another."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._shape = RowShape(0, 0, raw=False)
        self._memory: RowMemory | None = None
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started = -_RESTART_SECONDS
        self._asking = self._closed = False

    @property
    def pid(self) -> int | None:
        """The process; None before `begin`."""
        return None if self._process is None else self._process.pid

    def memory(self, shape: RowShape) -> RowMemory:
        """The memory for the rows of all blocks, which the process shares."""
        self._shape, self._memory = shape, RowMemory(shape)
        return self._memory

    def begin(self) -> None:
        """Start the process. ChallengerError if it cannot open its log, ProcessError if it ends."""
        if self._connection is None:
            self._start()

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block. ChallengerError for what the challenger raises, ProcessError without a process."""
        self.begin()
        compared: ComparedBlock = self._reply_to(_DECIDE, rows.half, len(rows), rows.used)
        return compared

    def record(self) -> int:
        """Record the block decided last; returns how many lines were lost since the last call."""
        return 0 if self._opening.recording is None else int(self._reply_to(_RECORD))

    def close(self) -> None:
        """Have the process close its log and end; one that is busy ends as it is."""
        self._closed = True
        process, connection = self._process, self._connection
        if process is None:
            return
        try:
            if self._asking or connection is None:
                process.kill()
            else:
                connection.send((_CLOSE,))
            process.wait(_CLOSE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()

    def _start(self) -> None:
        if self._closed or self._memory is None or time.monotonic() - self._started < _RESTART_SECONDS:
            raise ProcessError("the process of the challenger has ended")
        self._started = time.monotonic()
        path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(self._memory.descriptor)],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[theirs.fileno(), self._memory.descriptor],
            )
        try:
            self._reply_to(self._opening, self._shape)
        except ChallengerError:
            self._end()
            raise

    def _reply_to(self, *question: object) -> Any:
        """The answer of the process."""
        connection = self._connection
        if connection is None:
            raise ProcessError("the process of the challenger has ended")
        self._asking = True
        try:
            connection.send(question)
            error, answer = connection.recv()
        except (EOFError, OSError):
            self._end()
            raise ProcessError("the process of the challenger has ended") from None
        finally:
            self._asking = False
        if error:
            raise ChallengerError(error)
        return answer

    def _end(self) -> None:
        """Let go of a process that has ended, or cannot open its log."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def serve(descriptor: int, memory: int) -> None:
    """Judge what the service sends, until it closes or has gone."""
    # Whoever stops the service may signal all of its processes, and the last rows are still to come.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):  # the service has gone
        _Bench(connection).sit(memory)


class _Bench:
    """The side of the process: answers each question with the name of an error, empty without one, and the result."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lost = 0

    def sit(self, descriptor: int) -> None:
        opening, shape = self._connection.recv()
        memory, judge = RowMemory(shape, descriptor), self._opened(opening)
        if judge is None:
            return
        os.nice(_NICE)  # not before: on a busy machine the start alone would take minutes
        gc.freeze()  # a model has a hundred thousand objects, and each full collection would walk through all
        try:
            while (question := self._connection.recv())[0] != _CLOSE:
                if question[0] == _DECIDE:
                    half, rows, used = question[1:]
                    self._answer(partial(judge.decide, memory.halves[half].filled(rows, used)))
                else:
                    self._answer(lambda: judge.record() + self._found_lost())
        finally:
            judge.close()

    def _opened(self, opening: Opening) -> OwnJudge | None:
        try:
            judge = opening.judge(self._lose)
        except Exception as error:  # noqa: BLE001 - no applicant is known yet, so its text is safe to tell
            _LOGGER.error("the challenger %s in shadow cannot begin: %s", opening.variant, error)  # noqa: TRY400 - one line
            self._connection.send((type(error).__name__, None))
            return None
        self._connection.send(("", None))
        return judge

    def _answer(self, question: Callable[[], object]) -> None:
        try:
            answer = "", question()
        except Exception as error:  # noqa: BLE001 - whatever a challenger does, its process goes on
            answer = type(error).__name__, None
        self._connection.send(answer)

    def _lose(self, lines: int) -> None:
        self._lost += lines

    def _found_lost(self) -> int:
        found, self._lost = self._lost, 0
        return found
