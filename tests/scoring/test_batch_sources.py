"""The same applications give the same decisions, wherever a job reads them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from features.database import DecisionTable
from jobs.destination import file_system
from tests import buckets, postgres
from tests.scoring import jobs
from tests.scoring.jobs import files, rejections, rows, score_files
from tests.skipped import missing

PART_ROWS = 20


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.book(tmp_path_factory.mktemp("book") / "book.parquet")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, book, small) -> Path:
    """The output of a job that reads a local file."""
    output = tmp_path_factory.mktemp("expected") / "out"
    score_files(book, output, small, part_rows=PART_ROWS)
    return output


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with buckets.empty("book") as address:
        yield address


@pytest.mark.slow
def test_a_bucket_gives_the_decisions_of_a_local_file(book, expected, small, bucket, output):
    file_system(bucket)[0].put_file(str(book), "book/in/month=11/book.parquet")
    summary = score_files(f"{bucket}/in", output, small, part_rows=PART_ROWS)
    assert (summary.rows, summary.ignored_columns) == (120, ("BRANCH", "month"))
    decisions = {name: content for name, content in files(output).items() if not name.startswith("_")}
    assert decisions == {name: files(expected)[name] for name in decisions}
    assert len(decisions) == 6
    told = {row["file"] for row in rejections(output)}
    assert told == {f"{bucket}/in/month=11/book.parquet"}


@pytest.mark.slow
def test_compressed_text_in_folders_gives_the_decisions_of_a_local_file(book, expected, small, output, tmp_path):
    whole = parquet.read_table(book)
    for start, branch in ((0, "a"), (60, "b")):
        folder = tmp_path / "in" / branch
        folder.mkdir(parents=True)
        csv.write_csv(whole.slice(start, 60), tmp_path / "a.csv")
        (folder / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert score_files(f"{tmp_path}/in/*/*.csv.gz", output, small).rows == 120
    assert rows(output) == rows(expected)


@pytest.mark.slow
def test_a_database_gives_the_decisions_of_a_local_file(book, expected, small, output):
    programs = postgres.installed()
    if programs is None:
        pytest.skip(missing("initdb"))
    with postgres.running(programs) as running:
        address = running.replace("postgresql:", "postgresql+psycopg:")
        whole = parquet.read_table(book)
        table = DecisionTable.at(address, "applications", job="a")
        table.prepare(whole.schema)
        table.write(0, [whole])
        summary = score_files(address, output, small, query='select * from applications order by "SK_ID_CURR"')
    assert summary.rows == 120
    assert rows(output) == rows(expected)
    assert pa.concat_tables(jobs.parts(output)).schema == jobs.parts(expected)[0].schema
