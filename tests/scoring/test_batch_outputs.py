"""Decisions in a bucket and in a database, and what a job says where it cannot write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from sqlalchemy import create_engine, text

from jobs.destination import file_system
from jobs.errors import OutputError, ProjectError
from scoring.engines import InProcess, Shard, run_job
from scoring.errors import BatchError
from scoring.store import StoredModel
from tests import buckets, postgres
from tests.scoring import jobs
from tests.scoring.jobs import files, job_of, rejections, rows, score_files
from tests.server import free_port
from tests.skipped import missing

PART_ROWS = 20


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.book(tmp_path_factory.mktemp("book") / "book.parquet")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, book: Path, small: StoredModel) -> Path:
    """The output of a job in a local folder."""
    output = tmp_path_factory.mktemp("expected") / "out"
    score_files(book, output, small, part_rows=PART_ROWS)
    return output


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with buckets.empty("book") as address:
        yield address


def held(address: str) -> dict[str, bytes]:
    """The objects below an address."""
    store, root = file_system(address)
    return {path.removeprefix(f"{root}/"): store.cat_file(path) for path in sorted(store.find(root))}


def interrupted(book: Path, output: str, model: StoredModel, after: int, **options: Any) -> None:
    """A job that is interrupted after so many parts."""
    told: list[int] = []

    def interrupt(count: int) -> None:
        told.append(count)
        if len(told) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_files(book, output, model, part_rows=PART_ROWS, progress=interrupt, **options)


@pytest.mark.slow
def test_a_bucket_gets_the_files_of_a_folder_and_the_manifest_says_that_all_are_there(book, expected, small, bucket):
    output = f"{bucket}/scores"
    interrupted(book, output, small, 2)
    begun = held(output)
    assert {name for name in begun if not name.startswith("_")} == {"part-00000.parquet", "part-00001.parquet"}
    assert "_manifest.json" not in begun
    told: list[int] = []
    summary = score_files(book, output, small, part_rows=PART_ROWS, progress=told.append)
    assert told == [2 * PART_ROWS] + [PART_ROWS] * 4
    found = held(output)
    manifest = json.loads(found.pop("_manifest.json"))
    assert found == files(expected)
    assert manifest["parts"] == jobs.manifest(expected)["parts"]
    assert score_files(book, output, small, part_rows=PART_ROWS) == summary
    with pytest.raises(BatchError, match=rf"^{output}: holds the result of --reasons True, not False; name another"):
        score_files(book, output, small, part_rows=PART_ROWS, reasons=False)


@pytest.mark.slow
def test_shards_share_a_bucket(book, expected, small, bucket):
    job = job_of(book, f"{bucket}/shards", small, part_rows=PART_ROWS)
    ends = [run_job(job, InProcess(small), shard=Shard(index, 3)) for index in (1, 2, 0)]
    assert [end is None for end in ends] == [True, True, False]
    found = held(f"{bucket}/shards")
    assert {name: found[name] for name in files(expected)} == files(expected)


@pytest.mark.slow
def test_an_address_that_cannot_be_used_is_one_line(book, small, bucket, monkeypatch):
    files, _ = file_system(bucket)
    files.pipe_file("book/mine/notes.txt", b"mine")
    assert refused(book, f"{bucket}/mine", small) == f"{bucket}/mine: exists already"
    assert refused(book, "s3://none/out", small).startswith("s3://none/out: cannot be used (")
    assert refused(book, "s3://key:secret@none/out", small).startswith("s3://none/out: cannot be used (")
    assert refused(book, "nothing://none/out", small) == "nothing://none/out: cannot be used (ValueError)"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    s3fs.S3FileSystem.clear_instance_cache()
    assert refused(book, f"{bucket}/out", small) == f"{bucket}/out: cannot be used (EndpointConnectionError)"
    s3fs.S3FileSystem.clear_instance_cache()


def refused(book: Path, output: str, model: StoredModel, **options: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        score_files(book, output, model, part_rows=PART_ROWS, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an empty database."""
    programs = postgres.installed()
    if programs is None:
        pytest.skip(missing("initdb"))
    with postgres.running(programs) as running:
        yield running.replace("postgresql:", "postgresql+psycopg:")


def selected(database: str, statement: str) -> list[dict[str, Any]]:
    engine = create_engine(database)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(text(statement)).mappings()]
    engine.dispose()
    return found


@pytest.mark.slow
def test_a_database_gets_each_decision_once_whenever_the_job_was_interrupted(book, expected, small, database, tmp_path):
    work, into = tmp_path / "work", {"database": database, "into": "decided"}
    interrupted(book, str(work), small, 3, **into)
    # As after a kill between the commit of a part and its record.
    (tmp_path / "work.unfinished" / "_work" / "part-00001.json").unlink()
    summary = score_files(book, work, small, part_rows=PART_ROWS, **into)
    assert (summary.rows, summary.scored, summary.rejected) == (120, 116, 4)
    statement = 'select * from decided order by "SK_ID_CURR"'
    assert selected(database, statement) == rows(expected)
    assert rejections(work) == rejections(expected)
    assert not list(work.glob("*.parquet"))
    told = jobs.manifest(work)
    assert told["plan"]["table"].startswith("decided of postgresql+psycopg://")
    assert [part["decisions"] for part in told["parts"]] == [None] * 6
    assert score_files(book, work, small, part_rows=PART_ROWS, **into) == summary
    score_files(book, tmp_path / "again", small, part_rows=PART_ROWS, **into)
    assert len(selected(database, statement)) == 2 * 116


@pytest.mark.slow
def test_a_table_of_other_columns_or_no_database_is_one_line_and_nothing_is_scored(book, small, database, tmp_path):
    score_files(book, tmp_path / "work", small, part_rows=PART_ROWS, database=database, into="first")
    said = refused(book, str(tmp_path / "other"), small, database=database, into="first", reasons=False)
    assert "the table first has other columns: reason_1" in said
    nowhere = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/none"
    told: list[int] = []
    said = refused(book, str(tmp_path / "nowhere"), small, database=nowhere, into="first", progress=told.append)
    assert (said.count("\n"), "secret" in said, told) == (0, False, [])
    assert said.startswith("postgresql+psycopg://")


def test_an_output_whose_folder_cannot_be_made_is_one_line(book, small, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError) as caught:
        score_files(book, tmp_path / "file" / "out", small)
    assert str(caught.value) == f"{tmp_path / 'file' / 'out'}.unfinished: cannot be written (Not a directory)"
