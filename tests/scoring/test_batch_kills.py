"""Batch jobs are killed at random moments and started again: the output is that of a job that nobody killed.

KILLS says how often, and BOOK_RESULTS where the counts go: `make book-kills`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from deploy.record import add_result
from scoring.store import StoredModel
from tests.features.examples import ROOT, table
from tests.scoring.jobs import files, rejections, rows, score_files

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "2"))
RESULTS = os.environ.get("BOOK_RESULTS")
FILES, ROWS = 12, 60
SECONDS = 120


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files of sixty applicants, of whom one in sixty breaks a rule."""
    folder = tmp_path_factory.mktemp("book")
    for number in range(FILES):
        credit = pa.array([-1.0 if row == number else 300_000.0 + row for row in range(ROWS)])
        held = table(ROWS, AMT_CREDIT=credit, EXT_SOURCE_2=pa.array([row / ROWS for row in range(ROWS)]))
        ids = pa.array([1000 * number + row for row in range(ROWS)])
        parquet.write_table(held.append_column("SK_ID_CURR", ids), folder / f"{number:02}.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: StoredModel) -> Path:
    """The folder of the model as the store would name it."""
    path = tmp_path_factory.mktemp("store") / small.name / small.version
    path.parent.mkdir()
    small.scorer.artefact.write(path)
    return path


def command(book: Path, output: Path, model: Path, workers: int) -> list[str]:
    words = ["batch", "--input", str(book), "--output", str(output), "--model", str(model)]
    return [sys.executable, "-m", "scoring", *words, "--workers", str(workers), "--chunk-rows", "3"]


def started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not happened() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def finished_parts(output: Path) -> int:
    return len(list(output.with_name(f"{output.name}.unfinished").glob("_work/part-*.json")))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_is_killed_and_started_again_gives_the_rows_of_one_that_was_not(
    book: Path, folder: Path, small: StoredModel, tmp_path: Path, workers: int
) -> None:
    draw = random.Random(workers)
    score_files(book, tmp_path / "whole", small)
    output, killed, moments = tmp_path / "out", 0, []
    words = command(book, output, folder, workers)
    while killed < KILLS and not output.exists():
        target = min(finished_parts(output) + draw.choice((0, 0, 1)), FILES)
        with started(words) as process:
            if draw.random() < 0.9:  # else while it starts
                assert process.stderr is not None
                process.stderr.readline()
                wait_for(lambda least=target: finished_parts(output) >= least, process)  # type: ignore[misc]
            time.sleep(draw.random() * 0.3)
            process.kill()
            process.communicate()
        killed += 1
        moments.append(finished_parts(output))
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{FILES * ROWS} applications by small:{small.version}: ")
    assert files(output) == files(tmp_path / "whole")
    assert len(rows(output)) == FILES * (ROWS - 1)
    assert len(rejections(output)) == FILES
    if RESULTS:
        counts = {"kills": killed, "finished parts at each kill": moments, "parts": FILES, "rows that differ": 0}
        add_result(Path(RESULTS), "make book-kills", f"{workers} worker{'s' * (workers > 1)}", counts)


def test_a_worker_that_is_killed_ends_the_job_in_one_line_and_the_next_start_goes_on(
    book: Path, folder: Path, small: StoredModel, tmp_path: Path
) -> None:
    score_files(book, tmp_path / "whole", small)
    output = tmp_path / "out"
    words = command(book, output, folder, 2)
    with started(words) as process:
        wait_for(lambda: finished_parts(output) > 0, process)
        workers_of(process)[0].kill()
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "error: a process of this job has ended (SIGKILL); it may have lacked memory. The same command goes on "
        "where it was"
    )
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out.unfinished/part-*")}
    assert 0 < len(done) < FILES
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    assert files(output) == files(tmp_path / "whole")
    assert {(output / path.name).stat().st_mtime_ns for path in done} == {*done.values()}


def test_the_workers_end_when_the_job_is_killed(book: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with started(command(book, output, folder, 2)) as process:
        wait_for(lambda: finished_parts(output) > 0, process)
        workers = workers_of(process)
        process.kill()
        process.communicate()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=SECONDS)[1] == []


def test_a_signal_ends_a_job_of_several_processes_in_one_line(book: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with started(command(book, output, folder, 2)) as process:
        wait_for(lambda: finished_parts(output) > 0, process)
        workers = workers_of(process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines() == ["applications ...", "stopped by SIGTERM"]
    assert psutil.wait_procs(workers, timeout=SECONDS)[1] == []
    assert not output.exists()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
