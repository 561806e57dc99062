"""Engines score the parts of a job: in this process, or in several processes of this machine; a shard is its share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, Self

import pyarrow as pa

from jobs.errors import OutputError, ProcessError, ProjectError
from scoring.errors import BatchError
from scoring.job import BatchJob, Summary
from scoring.part import WORK, Advance, PartRecord, PartTask, read_record, score_part
from scoring.store import StoredModel

INDEX_VARIABLE, COUNT_VARIABLE = "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"
"""The environment variables with the index of a pod of an Indexed Job, from 0, and the number of them."""

_POLL_SECONDS = 0.2
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Engine(Protocol):
    """Scores parts somewhere."""

    def run(self, tasks: Sequence[PartTask], advance: Advance) -> Iterator[PartRecord]:
        """The records of the parts in any order; `advance` is told the rows that were read, and often 0.

        ProjectError, in one line, if a part cannot be scored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shard:
    """The share of a job: the parts whose number leaves `index` when divided by `count`."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise BatchError(f"shard {self.index}/{self.count}: the first number must be from 0 to {self.count - 1}")

    @classmethod
    def of(cls, text: str | None, *, shards: int | None, environment: Mapping[str, str] = os.environ) -> Self:
        """The shard that `I/N` says, or else the environment of an Indexed Job; BatchError if it cannot be told.

        >>> Shard.of("1/4", shards=None), Shard.of(None, shards=4, environment={"JOB_COMPLETION_INDEX": "3"})
        (Shard(index=1, count=4), Shard(index=3, count=4))
        """
        index, count = environment.get(INDEX_VARIABLE), shards or environment.get(COUNT_VARIABLE)
        if text is not None:
            index, _, count = text.partition("/")
        elif index is None:
            if shards is not None:
                raise BatchError(f"--shards without --shard: {INDEX_VARIABLE} must be set")
            return cls()
        if count is None:
            raise BatchError(f"{INDEX_VARIABLE} is set: --shards or {COUNT_VARIABLE} must say how many there are")
        try:
            return cls(int(index), int(count))
        except ValueError:
            raise BatchError(f"shard {index}/{count}: must be two whole numbers, as in 0/4") from None


WHOLE = Shard()


def run_job(
    job: BatchJob, engine: Engine, *, shard: Shard = Shard(), advance: Advance = lambda _: None
) -> Summary | None:
    """Score what is left of a job, or of one shard of it; None if parts of other shards are not finished yet.

    A ProjectError leaves the finished parts in the unfinished output, and the same job goes on with the others.
    """
    with _begun(job, shard) as (tasks, before):
        if before is not None:
            return before
        records = {task.number: record for task in tasks if (record := read_record(task)) is not None}
        if records:
            advance(sum(record.counts.rows for record in records.values()))
        left = [task for task in tasks if task.number % shard.count == shard.index and task.number not in records]
        rejected = sum(record.counts.rejected for record in records.values())
        for record in engine.run(left, advance):
            rejected += record.counts.rejected
            job.check_early(rejected)
        return finish_job(job, tasks)


def end_job(job: BatchJob) -> Summary | None:
    """Finish a job whose parts were scored elsewhere; BatchError if some are not."""
    with _begun(job, WHOLE) as (tasks, before):
        summary = before or finish_job(job, tasks)
        if summary is None:
            done = sum(read_record(task) is not None for task in tasks)
            raise BatchError(f"{job.output.unfinished}: {len(tasks) - done} of {len(tasks)} parts are not finished")
        return summary


def finish_job(job: BatchJob, tasks: Sequence[PartTask]) -> Summary | None:
    """Finish a job if all its parts are; None if some are not."""
    with job.output.held(f"{WORK}/finish.lock", wait=True) as held:
        if (summary := job.finished() or job.publish()) is not None:
            return summary
        records = [record for task in tasks if (record := read_record(task)) is not None]
        return job.finish(records) if held and len(records) == len(tasks) else None


@contextmanager
def _begun(job: BatchJob, shard: Shard) -> Iterator[tuple[tuple[PartTask, ...], Summary | None]]:
    """Hold the locks of a job that is begun during the block; yields its tasks, and its summary if it is finished."""
    if (summary := job.finished()) is not None:
        yield (), summary
        return
    output = job.output
    output.begin(WORK)
    alone = shard.count == 1
    with (
        output.held(f"{WORK}/job.lock", shared=not alone) as job_held,
        output.held(f"{WORK}/shard-{shard.index}-of-{shard.count}.lock") as shard_held,
    ):
        # Another shard may have finished the output since it was looked at, and this one has begun it anew.
        if (summary := job.finished()) is not None:
            output.discard(WORK)
            yield (), summary
        elif not (job_held and shard_held):
            raise OutputError(f"{output.unfinished}: another job is writing it")
        elif (summary := job.publish()) is not None:
            yield (), summary
        else:
            yield job.begin(), None


class InProcess:
    """Scores part after part in this process."""

    def __init__(self, model: StoredModel) -> None:
        self._model = model

    def run(self, tasks: Sequence[PartTask], advance: Advance) -> Iterator[PartRecord]:
        """The records of the parts in their order."""
        for task in tasks:
            yield score_part(task, self._model, advance=advance)


class ProcessPool:
    """Scores parts in several processes of this machine, each with one thread. They end with this process."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, tasks: Sequence[PartTask], advance: Advance) -> Iterator[PartRecord]:
        """The records of the parts as they are finished; ProcessError if a process is killed."""
        # Not forked: a copy of a process whose libraries have threads may wait without end for a lock.
        context = get_context("spawn")
        # One place for each part, which one process writes: no lock, which a killed process would keep.
        rows = context.RawArray("q", len(tasks))
        waiting = list(enumerate(tasks))[::-1]
        processes: dict[connection.Connection, SpawnProcess] = {}
        told = 0
        try:
            with _one_thread():
                for _ in range(min(self._workers, len(tasks))):
                    here, there = context.Pipe()
                    processes[here] = context.Process(target=_serve, args=(there, rows), daemon=True)
                    processes[here].start()
                    there.close()
            for here in processes:
                here.send(waiting.pop())
            running = len(processes)
            while running:
                ready = connection.wait([*processes], timeout=_POLL_SECONDS)
                before, told = told, sum(rows)
                advance(told - before)
                for end in [one for one in processes if one in ready]:
                    record = _received(end, processes[end])
                    if waiting:
                        end.send(waiting.pop())
                    else:
                        running -= 1
                    yield record
        finally:
            for here, process in processes.items():
                process.kill()
                process.join()
                here.close()


def _received(here: connection.Connection, process: SpawnProcess) -> PartRecord:
    try:
        answer = here.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise ProcessError(
            f"a process of this job has ended ({_end(process.exitcode)}); it may have lacked memory. "
            "The same command goes on where it was"
        ) from None
    if isinstance(answer, ProjectError):
        raise answer
    if not isinstance(answer, PartRecord):
        raise TypeError(f"a process of this job answered with {type(answer).__name__}")
    return answer


def _end(code: int | None) -> str:
    return signal.Signals(-code).name if code and code < 0 else f"exit code {code}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started in the block use one thread each: their libraries read this as they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(there: connection.Connection, rows: Any) -> None:
    """Score the parts that the other end names, until it closes."""
    # A terminal interrupts all processes of a command; the command itself decides when these end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pa.set_cpu_count(1)
    while True:
        try:
            place, task = there.recv()
        except EOFError:
            return
        there.send(_answer(task, _adder(rows, place)))


def _adder(rows: Any, place: int) -> Callable[[int], None]:
    def add(count: int) -> None:
        rows[place] += count

    return add


def _answer(task: PartTask, advance: Advance) -> PartRecord | ProjectError:
    try:
        return score_part(task, advance=advance)
    except ProjectError as error:
        return error


def _end_with_parent() -> None:
    """End this process when the one that has started it ends, even if that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
