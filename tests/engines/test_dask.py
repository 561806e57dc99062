"""The workers of a real Dask cluster score the parts of a job."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from jobs.destination import file_system
from scoring.cli import main
from scoring.cluster import DaskEngine
from scoring.engines import run_job
from scoring.errors import BatchError
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests import buckets
from tests.engines.books import IDENTIFIER, Book, decided
from tests.engines.dask_cluster import Cluster, running_cluster
from tests.scoring.jobs import job_of
from tests.server import ROOT, free_port, unmeasured

PATIENCE = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("dask") / "cluster") as running:
        yield running


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel was unpacked, as pip does."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def words_of(book: Book, folder: Path, output: Path | str, address: str, *more: str) -> list[str]:
    """The words after `python -m scoring` that score a book on a cluster."""
    where = ["--input", str(book.folder), "--output", str(output), "--model", str(folder)]
    return ["batch", *where, "--engine", "dask", "--scheduler", address, *more]


def started(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scoring", *words]
    return subprocess.Popen(command, cwd=ROOT, env=unmeasured(), text=True, stderr=subprocess.PIPE)


def one_line(said: str) -> str:
    """What a command that failed has said, its progress aside."""
    (line,) = [line for line in said.splitlines() if not line.startswith("applications")]
    return line


Files = dict[str, tuple[int, int]]


def files(folder: Path, names: Iterable[str]) -> Files:
    """What tells each file from another one of the same name: a part that is scored again is a new file."""
    found = {name: (folder / name).stat() for name in sorted(names)}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in found.items()}


def finished(folder: Path) -> Files:
    """The parts of a job that are finished so far."""
    return files(folder, [record.with_suffix(".parquet").name for record in folder.glob("_work/part-*.json")])


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen[str]) -> Files:
    deadline = time.monotonic() + PATIENCE
    while len(parts := finished(folder)) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return parts


def assert_equal(output: Path, book: Book, scorer: Scorer) -> None:
    identifiers, probabilities = decided(output)
    assert identifiers.tolist() == sorted(book.applications[IDENTIFIER].to_pylist())
    assert probabilities.tobytes() == book.probabilities(scorer).tobytes()


def test_a_worker_with_the_wheel_gives_the_bits_of_the_service(
    cluster: Cluster, book: Book, folder: Path, scorer: Scorer, installed: Path, tmp_path: Path
) -> None:
    with cluster.workers(cwd=tmp_path, environment={"PYTHONPATH": str(installed)}):
        assert main(words_of(book, folder, tmp_path / "scores", cluster.address)) == 0
    assert_equal(tmp_path / "scores", book, scorer)


def test_workers_write_to_a_bucket(
    cluster: Cluster, book: Book, folder: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with buckets.running() as endpoint:
        variables = {**buckets.ENVIRONMENT, "AWS_ENDPOINT_URL_S3": endpoint}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # another test's server had another address
        store, _ = file_system("s3://books/")
        store.mkdir("books")
        with cluster.workers(environment=variables):
            assert main([*words_of(book, folder, "s3://books/scores", cluster.address), "--no-reasons"]) == 0
        store.invalidate_cache()
        store.get("books/scores", str(tmp_path / "scores"), recursive=True)
        S3FileSystem.clear_instance_cache()
    assert_equal(tmp_path / "scores", book, scorer)


def test_a_worker_that_is_killed_costs_its_unfinished_part_only(
    cluster: Cluster, book: Book, folder: Path, scorer: Scorer, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    # Batches of few rows take long, so that the workers are in the middle of a part.
    words = words_of(book, folder, output, cluster.address, "--chunk-rows", "10")
    with cluster.workers(2) as (victim, _), started(words) as running:
        before = wait_for_parts(tmp_path / "scores.unfinished", 2, running)
        victim.kill()
        assert running.wait(PATIENCE) == 0
    assert_equal(output, book, scorer)
    assert files(output, before) == before


def test_a_command_that_is_stopped_goes_on_where_it_was(
    cluster: Cluster, book: Book, folder: Path, scorer: Scorer, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    words = words_of(book, folder, output, cluster.address, "--chunk-rows", "10")
    with cluster.workers(1):
        with started(words) as running:
            before = wait_for_parts(tmp_path / "scores.unfinished", 1, running)
            running.send_signal(signal.SIGTERM)
            _, said = running.communicate(timeout=PATIENCE)
        assert running.returncode == 128 + signal.SIGTERM
        assert said.splitlines()[-1] == "stopped by SIGTERM"
        assert not output.exists()
        assert main(words) == 0
    assert_equal(output, book, scorer)
    assert files(output, before) == before


def test_a_worker_without_the_wheel_is_told_in_one_line(
    cluster: Cluster, book: Book, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster.workers(cwd=tmp_path):
        assert main(words_of(book, folder, tmp_path / "scores", cluster.address)) == 1
    assert (
        one_line(capsys.readouterr().err)
        == f"error: {cluster.address}: a worker lacks scoring: it needs the wheel of the scorer"
    )


def test_a_worker_with_another_wheel_is_told_in_one_line(
    cluster: Cluster, book: Book, folder: Path, installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = shutil.copytree(installed, tmp_path / "older")
    with (older / "scoring" / "policy.py").open("a") as module:
        module.write("# changed\n")
    with cluster.workers(cwd=tmp_path, environment={"PYTHONPATH": str(older)}):
        assert main(words_of(book, folder, tmp_path / "scores", cluster.address)) == 1
    said = one_line(capsys.readouterr().err)
    assert said.startswith("error: a worker has scorer ")
    assert said.endswith(": it needs the wheel and the versions of this command")


def test_a_scheduler_that_does_not_answer_is_told_in_one_line(
    book: Book, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    assert main(words_of(book, folder, tmp_path / "scores", address)) == 1
    assert one_line(capsys.readouterr().err) == f"error: {address}: no scheduler of Dask answers there"


@pytest.mark.parametrize("address", ["nowhere", "ftp://127.0.0.1:21", "tcp://127.0.0.1:port", "tcp://127.0.0.1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BatchError, match=rf"^{address}: an address of a scheduler is such as tcp://10\.0\.0\.7:8786$"):
        DaskEngine(address)


@pytest.mark.parametrize("words", [["--engine", "dask"], ["--scheduler", "tcp://127.0.0.1:8786"]])
def test_the_engine_and_its_scheduler_belong_together(
    book: Book, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    where = ["--input", str(book.folder), "--output", str(tmp_path / "scores"), "--model", str(folder)]
    assert main(["batch", *where, *words]) == 2
    assert one_line(capsys.readouterr().err) == "error: --engine dask and --scheduler belong together"


def test_a_scheduler_that_is_lost_is_told_in_one_line(book: Book, folder: Path, tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster") as cluster, cluster.workers(1):
        running = started(words_of(book, folder, tmp_path / "scores", cluster.address, "--chunk-rows", "10"))
        wait_for_parts(tmp_path / "scores.unfinished", 1, running)
        cluster.process.kill()
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert one_line(said) == f"error: {cluster.address}: the scheduler was lost; started again, the job continues"


def test_a_job_without_any_worker_ends(
    cluster: Cluster, book: Book, folder: Path, small: StoredModel, tmp_path: Path
) -> None:
    job = job_of(book.folder, tmp_path / "scores", small, reference=str(folder))
    said = f"^{cluster.address}: has had no worker for 0.1 seconds$"
    with pytest.raises(BatchError, match=said):
        run_job(job, DaskEngine(cluster.address, patience=0.1))
