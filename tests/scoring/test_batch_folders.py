"""Where a batch job reads and writes, and what it leaves behind."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import FileError
from jobs.errors import OutputError
from tests.features.examples import table
from tests.scoring.jobs import parquet_of, parts, people, refused, rows, score_files


def test_a_folder_is_scored_file_by_file_in_the_order_of_names(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "b.csv", 4, 5)
    parquet_of(source / "a.parquet", pa.array([3, 1, 2]))
    people(source / "c.csv")
    (source / "notes.txt").write_text("not scored")
    summary = score_files(source, output, small, chunk_rows=2)
    assert summary.rows == 5
    assert [[row["SK_ID_CURR"] for row in part.to_pylist()] for part in parts(output)] == [[3, 1, 2], [4, 5]]
    assert [path.name for path in sorted(output.glob("*.parquet"))] == ["part-00000.parquet", "part-00001.parquet"]


@pytest.mark.parametrize("name", ["B.CSV", "b.Parquet"])
def test_the_case_of_a_suffix_does_not_matter(small, output, tmp_path, name):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    if name == "B.CSV":
        people(source / name, 2)
    else:
        parquet_of(tmp_path / "b.parquet", pa.array([2])).rename(source / name)
    assert score_files(source, output, small).passed_over == ()
    assert sorted(row["SK_ID_CURR"] for row in rows(output)) == [1, 2]


def test_marks_and_files_that_are_no_tables_are_passed_over_and_named(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    marks = ["._a.csv", ".a.csv.crc", ".hidden.parquet", "_SUCCESS", "_metadata.parquet", "~$a.csv"]
    for name in [*marks, "README", "notes.txt"]:
        (source / name).write_bytes(b"\0\5\x16\7")
    (source / ".ipynb_checkpoints").mkdir()
    summary = score_files(source, output, small)
    assert (summary.rows, set(summary.passed_over)) == (1, {*marks, "README", "notes.txt", ".ipynb_checkpoints"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("c.csv.gz", "is text, not gzip as its suffix says"),
        ("c.CSV.ZIP", "neither .csv nor .parquet (of compressed files only .csv.gz and .csv.zst are read)"),
        ("c.csv.bak", "neither .csv nor .parquet"),
        ("c.tsv", "neither .csv nor .parquet"),
        ("c.xlsx", "neither .csv nor .parquet"),
        ("c.jsonl", "neither .csv nor .parquet"),
    ],
)
def test_what_may_hold_applications_and_cannot_be_read_is_refused_by_name(small, output, tmp_path, name, said):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    (source / name).write_text("x")
    assert refused(source, output, small, FileError) == f"{source / name}: {said}"


@pytest.mark.parametrize(
    "suffix",
    [
        *(".tsv", ".tab", ".psv", ".dat", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".json", ".jsonl", ".ndjson"),
        *(".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db", ".sas7bdat", ".dta", ".sav", ".rds", ".pkl"),
        *(".pickle", ".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".tar", ".tgz"),
    ],
)
def test_a_table_of_another_format_is_not_passed_over(small, output, tmp_path, suffix):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    (source / f"b{suffix}").write_text("x")
    assert refused(source, output, small, FileError).startswith(f"{source / 'b'}{suffix}: neither .csv nor .parquet")


@pytest.mark.parametrize("files", [[], ["notes.txt"], [".a.csv"]])
def test_a_folder_without_a_file_to_score_is_refused(small, output, tmp_path, files):
    source = tmp_path / "in"
    source.mkdir()
    for name in files:
        (source / name).write_text("x")
    assert refused(source, output, small, FileError) == f"{source}: no .csv or .parquet file in it"


def test_a_source_without_rows_is_refused(small, output, tmp_path):
    source = people(tmp_path / "a.csv")
    assert refused(source, output, small) == f"{source}: has no rows"


def test_a_source_that_is_not_there_is_refused(small, output, tmp_path):
    assert refused(tmp_path / "none.csv", output, small, FileError) == f"{tmp_path / 'none.csv'}: no such file"


def test_a_bad_file_in_a_folder_is_found_before_anything_is_scored(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    people(source / "a.csv", 1)
    (source / "b.csv").write_text("SK_ID_CURR\n1\n")
    told: list[int] = []
    assert "b.csv: column missing" in refused(source, output, small, progress=told.append)
    assert told == []


@pytest.mark.parametrize("existing", ["file", "filled"])
def test_an_output_that_exists_is_refused_and_kept(labelled_csv, small, tmp_path, existing):
    output = tmp_path / existing
    (tmp_path / "file").write_text("mine")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"exists already$"):
        score_files(labelled_csv, output, small)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(small, output, tmp_path):
    output.mkdir()
    score_files(people(tmp_path / "a.csv", 1), output, small)
    assert [row["SK_ID_CURR"] for row in rows(output)] == [1]


@pytest.mark.parametrize("chunk_rows", [2, 1000])
def test_a_csv_file_that_is_damaged_further_down_leaves_nothing(labelled_csv, small, output, tmp_path, chunk_rows):
    content = labelled_csv.read_bytes()
    (tmp_path / "a.csv").write_bytes(content[: int(len(content) * 0.9)])
    said = refused(tmp_path / "a.csv", output, small, FileError, chunk_rows=chunk_rows)
    rows = content[: int(len(content) * 0.9)].count(b"\n")
    assert re.search(rf"a.csv: row {rows} has \d+ of 122 fields$", said)


def test_a_parquet_file_that_is_damaged_further_down_leaves_nothing(small, output, tmp_path):
    path = tmp_path / "a.parquet"
    ids = pa.array(range(200))
    parquet.write_table(table(200).add_column(0, "SK_ID_CURR", ids), path, row_group_size=20)
    damaged = parquet.read_metadata(path).row_group(5).column(0).data_page_offset
    content = path.read_bytes()
    path.write_bytes(content[:damaged] + bytes(100) + content[damaged + 100 :])
    told: list[int] = []
    refused(path, output, small, FileError, chunk_rows=20, progress=told.append)
    assert told == [20] * 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_job_leaves_no_half_file(labelled_csv, small, output, error):
    def interrupt(_: int) -> None:
        raise error

    with pytest.raises(error):
        score_files(labelled_csv, output, small, chunk_rows=100, progress=interrupt)
    [unfinished] = output.parent.iterdir()
    assert unfinished.name == "out.unfinished"
    assert {str(path.relative_to(unfinished)) for path in unfinished.rglob("*")} == {
        "_work", "_work/plan.json", "_work/job.lock", "_work/shard-0-of-1.lock",
    }  # fmt: skip


def test_the_result_is_there_only_when_it_is_whole(labelled_csv, small, output):
    seen: list[bool] = []
    score_files(labelled_csv, output, small, chunk_rows=100, progress=lambda _: seen.append(output.exists()))
    assert seen == [False] * 4
    assert output.is_dir()
