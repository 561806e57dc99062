"""A batch job in parts: started again, in shards, in several processes, with its options."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from features.errors import ColumnsError, FileError
from jobs.errors import OutputError
from jobs.output import take_lock
from scoring.engines import InProcess, ProcessPool, Shard, end_job, run_job
from scoring.errors import BatchError
from scoring.part import score_part
from scoring.store import StoredModel
from tests.features.examples import NAMES, table, write_csv
from tests.scoring import jobs
from tests.scoring.jobs import (
    files,
    job_of,
    manifest,
    parquet_of,
    parts,
    people,
    refused,
    rejections,
    rows,
    score_files,
)

ROWS = 120
PART_ROWS = 20


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, labelled_csv: Path) -> Path:
    """Six parts of twenty applicants each, of whom one in thirty breaks a rule."""
    return jobs.book(tmp_path_factory.mktemp("book") / "book.parquet", rows=ROWS, part=PART_ROWS)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, book: Path, small: StoredModel) -> dict[str, bytes]:
    """The files of an uninterrupted job."""
    output = tmp_path_factory.mktemp("expected") / "out"
    score_files(book, output, small, part_rows=PART_ROWS)
    return files(output)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: StoredModel) -> str:
    """The folder of the model, for other processes."""
    path = tmp_path_factory.mktemp("model") / "small"
    small.scorer.artefact.write(path)
    return str(path)


def unfinished(output: Path) -> Path:
    return output.with_name(f"{output.name}.unfinished")


def test_each_part_of_the_source_is_a_part_of_the_output(book, expected, small, output):
    summary = score_files(book, output, small, part_rows=PART_ROWS)
    assert [len(part) for part in parts(output)] == [19, 19, 20, 19, 19, 20]
    assert [row["SK_ID_CURR"] for row in rejections(output)] == [1007, 1037, 1067, 1097]
    assert [row["file_row"] for row in rejections(output)] == [8, 38, 68, 98]
    assert (summary.rows, summary.scored, summary.rejected) == (ROWS, ROWS - 4, 4)
    assert set(expected) == {
        *(f"part-{part:05}.parquet" for part in range(6)),
        *(f"_quarantine/part-{part:05}.parquet" for part in (0, 1, 3, 4)),
    }


@pytest.mark.parametrize("interrupted", [0, 1, 3, 5])
def test_a_job_that_is_started_again_computes_only_what_was_not_finished(book, expected, small, output, interrupted):
    told: list[int] = []

    def interrupt(count: int) -> None:
        told.append(count)
        if len(told) > interrupted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_files(book, output, small, part_rows=PART_ROWS, progress=interrupt)
    assert not output.exists()
    before = {path.name: path.stat().st_mtime_ns for path in unfinished(output).glob("part-*.parquet")}
    assert len(before) == interrupted
    again: list[int] = []
    score_files(book, output, small, part_rows=PART_ROWS, progress=again.append)
    assert again == [interrupted * PART_ROWS] * (interrupted > 0) + [PART_ROWS] * (6 - interrupted)
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before
    assert files(output) == expected


def test_a_part_whose_file_was_cut_is_computed_again(book, expected, small, output):
    job = job_of(book, output, small, part_rows=PART_ROWS)
    run_job(job, InProcess(small), shard=Shard(0, 2))
    cut = unfinished(output) / "part-00002.parquet"
    cut.write_bytes(cut.read_bytes()[:-10])
    score_files(book, output, small, part_rows=PART_ROWS)
    assert files(output) == expected


def test_a_finished_job_says_again_what_it_said_and_changes_nothing(book, small, output):
    first = score_files(book, output, small, part_rows=PART_ROWS)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    told: list[int] = []
    assert score_files(book, output, small, part_rows=PART_ROWS, progress=told.append) == first
    assert (told, {path: path.stat().st_mtime_ns for path in output.rglob("*")}) == ([], before)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reasons": False}, "--reasons True, not False"),
        ({"limit": 30}, "--limit None, not 30"),
        ({"sample": 0.5}, "--sample 1.0, not 0.5"),
        ({"carry": ("BRANCH",)}, "--carry (), not ('BRANCH',)"),
    ],
    ids=str,
)
def test_another_plan_is_refused_by_its_first_difference(book, small, output, options, said, done):
    job = job_of(book, output, small, part_rows=PART_ROWS)
    run_job(job, InProcess(small), shard=Shard(0, 1 if done else 2))
    held = sorted(output.parent.rglob("*.*"))
    where, what = (output, "holds the result of") if done else (unfinished(output), "was begun with")
    with pytest.raises(BatchError) as caught:
        score_files(book, output, small, part_rows=PART_ROWS, **options)
    assert str(caught.value) == f"{where}: {what} {said}; name another output, or remove it to begin anew"
    assert [path for path in sorted(output.parent.rglob("*.*")) if path.suffix != ".lock"] == [
        path for path in held if path.suffix != ".lock"
    ]


def test_another_model_is_refused(book, small, output):
    run_job(job_of(book, output, small, part_rows=PART_ROWS), InProcess(small), shard=Shard(0, 2))
    other = StoredModel("other", "2-abc", small.scorer)
    with pytest.raises(BatchError, match=rf"was begun with another model, small:{small.version}; name another"):
        score_files(book, output, other, part_rows=PART_ROWS)


def test_an_input_that_has_changed_is_refused(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, first in (("a", 1), ("b", 11)):
        parquet_of(source / f"{name}.parquet", pa.array(range(first, first + 10)))
    run_job(job_of(source, output, small), InProcess(small), shard=Shard(0, 2))
    parquet_of(source / "b.parquet", pa.array(range(50, 62)))
    with pytest.raises(BatchError, match=rf"another input: {source}/b.parquet has changed; name another output"):
        score_files(source, output, small)
    (source / "b.parquet").unlink()
    with pytest.raises(BatchError, match=rf"another input: {source}/b.parquet; name another output"):
        score_files(source, output, small)


def test_an_input_that_changes_while_it_is_read_is_refused(book, small, output, tmp_path):
    source = Path(shutil.copy(book, tmp_path / "book.parquet"))

    def change(_: int) -> None:
        source.write_bytes(book.read_bytes() + b"x")

    assert "has changed" in refused(source, output, small, FileError, part_rows=PART_ROWS, progress=change)


def test_a_plan_that_cannot_be_read_is_refused(book, small, output):
    (unfinished(output) / "_work").mkdir(parents=True)
    (unfinished(output) / "_work" / "plan.json").write_text("{}")
    said = refused(book, output, small, BatchError)
    assert said == f"{unfinished(output)}: its plan cannot be read; remove it to begin anew"


def test_two_jobs_on_one_output_refuse_each_other(book, expected, small, output):
    said: list[str] = []

    def start_another(_: int) -> None:
        if not said:
            shards = (Shard(), Shard(0, 2))
            said.extend(refused(book, output, small, OutputError, part_rows=PART_ROWS, shard=one) for one in shards)

    score_files(book, output, small, part_rows=PART_ROWS, progress=start_another)
    assert said == [f"{unfinished(output)}: another job is writing it"] * 2
    assert files(output) == expected


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_shards_in_any_order_write_the_same_as_one_job(book, expected, small, output, order):
    job = job_of(book, output, small, part_rows=PART_ROWS)
    ends = [run_job(job, InProcess(small), shard=Shard(index, 3)) for index in order]
    assert [end is not None for end in ends] == [False, False, True]
    assert files(output) == expected
    assert ends[-1] == run_job(job, InProcess(small), shard=Shard(order[0], 3))


def test_a_shard_may_run_beside_another_one_and_not_beside_itself(book, expected, small, output):
    job = job_of(book, output, small, part_rows=PART_ROWS)
    said: list[str] = []

    def start_others(_: int) -> None:
        if not said:
            said.append(refused(book, output, small, OutputError, part_rows=PART_ROWS, shard=Shard(0, 2)))
            run_job(job, InProcess(small), shard=Shard(1, 2))

    assert run_job(job, InProcess(small), shard=Shard(0, 2), advance=start_others) is not None
    assert said == [f"{unfinished(output)}: another job is writing it"]
    assert files(output) == expected


def test_a_job_is_finished_by_itself_when_all_parts_are_there(book, expected, small, output):
    job = job_of(book, output, small, part_rows=PART_ROWS)
    run_job(job, InProcess(small), shard=Shard(0, 2))
    with pytest.raises(BatchError, match=r"unfinished: 3 of 6 parts are not finished$"):
        end_job(job)
    for task in job.begin()[1::2]:
        score_part(task, small)
    assert end_job(job).rows == ROWS
    assert files(output) == expected


def test_a_job_that_was_killed_between_its_manifest_and_its_name_is_finished(book, expected, small, output):
    summary = score_files(book, output, small, part_rows=PART_ROWS)
    output.rename(unfinished(output))
    assert score_files(book, output, small, part_rows=PART_ROWS) == summary
    assert files(output) == expected


def test_a_shard_that_starts_while_another_one_finishes_leaves_nothing_behind(
    book, expected, small, output, monkeypatch
):
    job = job_of(book, output, small, part_rows=PART_ROWS)

    def finish_first(*folders: str) -> None:
        monkeypatch.undo()
        assert run_job(job, InProcess(small)) is not None
        (unfinished(output) / "_work").mkdir(parents=True)

    monkeypatch.setattr(job.output, "begin", finish_first)
    assert run_job(job, InProcess(small), shard=Shard(1, 2)) == job.finished()
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert files(output) == expected


@pytest.mark.parametrize(
    ("text", "shards", "environment", "expected"),
    [
        (None, None, {}, Shard(0, 1)),
        ("2/5", None, {}, Shard(2, 5)),
        ("2/5", 7, {"JOB_COMPLETION_INDEX": "1"}, Shard(2, 5)),
        (None, 4, {"JOB_COMPLETION_INDEX": "3"}, Shard(3, 4)),
        (None, None, {"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "8"}, Shard(3, 8)),
    ],
)
def test_a_shard_is_said_or_that_of_an_indexed_job(text, shards, environment, expected):
    assert Shard.of(text, shards=shards, environment=environment) == expected


@pytest.mark.parametrize(
    ("text", "shards", "environment", "said"),
    [
        ("5/5", None, {}, "shard 5/5: the first number must be from 0 to 4"),
        ("-1/5", None, {}, "shard -1/5: the first number must be from 0 to 4"),
        ("2", None, {}, "shard 2/: must be two whole numbers, as in 0/4"),
        ("a/b", None, {}, "shard a/b: must be two whole numbers, as in 0/4"),
        (None, 4, {}, "--shards without --shard: JOB_COMPLETION_INDEX must be set"),
        (
            None,
            None,
            {"JOB_COMPLETION_INDEX": "0"},
            "JOB_COMPLETION_INDEX is set: --shards or JOB",
        ),
    ],
)
def test_a_shard_that_cannot_be_told_is_refused(text, shards, environment, said):
    with pytest.raises(BatchError) as caught:
        Shard.of(text, shards=shards, environment=environment)
    assert str(caught.value).startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_write_the_same_and_tell_their_progress(book, expected, small, folder, output, workers):
    told: list[int] = []
    job = job_of(book, output, small, part_rows=PART_ROWS, reference=folder)
    assert run_job(job, ProcessPool(workers), advance=told.append) is not None
    assert files(output) == expected
    assert sum(told) <= ROWS


@pytest.mark.slow
def test_a_process_that_finds_an_error_ends_the_job_with_it(small, folder, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in "abc":
        people(source / f"{name}.csv", *range(5), "x" if name == "b" else ord(name))
    job = job_of(source, output, small, reference=folder)
    with pytest.raises(ColumnsError, match=r"b.csv: SK_ID_CURR: must be a whole number \(1 row: 6\)"):
        run_job(job, ProcessPool(2))


@pytest.mark.slow
def test_a_process_that_has_another_model_is_refused(book, small, folder, output):
    job = job_of(book, output, small, part_rows=PART_ROWS, reference=folder)
    job.output.begin("_work")
    other = [replace(task, digest="0" * 64) for task in job.tasks()]
    with pytest.raises(BatchError, match="is not the model that the job was planned with"):
        list(ProcessPool(1).run(other, lambda _: None))


def test_columns_are_carried_beside_the_decisions(book, small, output):
    score_files(book, output, small, part_rows=PART_ROWS, carry=("BRANCH", "AMT_CREDIT"), chunk_rows=7)
    first = parts(output)[0]
    assert first.column_names[:4] == ["SK_ID_CURR", "BRANCH", "AMT_CREDIT", "probability"]
    assert first.schema.types[1:3] == [pa.string(), pa.float64()]
    assert [row["BRANCH"] for row in rows(output)] == [f"branch {row % 4}" for row in range(ROWS) if row % 30 != 7]
    assert set(rejections(output)[0]) == {"SK_ID_CURR", "file", "file_row", "errors"}


def test_a_column_that_files_store_in_different_ways_is_carried_as_text(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, first, values in (("a", 1, pa.array([7])), ("b", 2, pa.array(["x"]))):
        held = table(1).append_column("SK_ID_CURR", pa.array([first])).append_column("AT", values)
        parquet.write_table(held, source / f"{name}.parquet")
    score_files(source, output, small, carry=("AT",))
    assert [row["AT"] for row in rows(output)] == ["7", "x"]


@pytest.mark.parametrize(
    ("carry", "said"),
    [
        (("NOBODY",), "has no column NOBODY to carry in every part"),
        (("SK_ID_CURR",), "SK_ID_CURR: cannot be carried; the decisions have a column of this name"),
        (("BRANCH", "BRANCH"), "BRANCH: cannot be carried; the decisions have a column of this name"),
    ],
)
def test_a_column_that_cannot_be_carried_is_refused(book, small, output, carry, said):
    assert refused(book, output, small, ColumnsError, carry=carry).endswith(said)
    assert not unfinished(output).exists()


def test_without_reasons_the_decisions_have_no_columns_of_them(book, small, output, tmp_path):
    score_files(book, output, small, reasons=False)
    score_files(book, tmp_path / "with", small)
    told = pa.concat_tables(parts(tmp_path / "with"))
    dropped = [name for name in told.column_names if name.startswith("reason_")]
    assert len(dropped) == 4
    assert pa.concat_tables(parts(output)).equals(told.drop_columns(dropped))


@pytest.mark.parametrize("chunk_rows", [7, 20, 1000])
@pytest.mark.parametrize(("limit", "taken"), [(1, 1), (20, 20), (29, 29), (119, 119), (120, 120), (5000, 120)])
def test_a_limit_takes_the_first_rows(book, small, output, limit, taken, chunk_rows):
    summary = score_files(book, output, small, part_rows=PART_ROWS, limit=limit, chunk_rows=chunk_rows)
    assert summary.rows == taken
    assert [row["SK_ID_CURR"] for row in rows(output)] == [1000 + row for row in range(taken) if row % 30 != 7]


def test_a_limit_takes_the_first_rows_of_files_whose_rows_are_not_known(small, output, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, ids in (("a", (3, 1)), ("b", (9, 8, 7)), ("c", (4, 5))):
        people(source / f"{name}.csv", *ids)
    score_files(source, output, small, limit=4, chunk_rows=1)
    assert [row["SK_ID_CURR"] for row in rows(output)] == [3, 1, 9, 8]


def test_a_sample_is_chosen_by_identifiers_and_not_by_places(book, small, output, tmp_path):
    whole = parquet.read_table(book)
    shuffled = whole.take(pc.sort_indices(whole, [("SK_ID_CURR", "descending")]))
    parquet.write_table(shuffled, tmp_path / "shuffled.parquet", row_group_size=31)
    summary = score_files(book, output, small, part_rows=PART_ROWS, sample=0.4)
    score_files(tmp_path / "shuffled.parquet", tmp_path / "other", small, part_rows=31, sample=0.4)
    score_files(book, tmp_path / "more", small, sample=0.7)
    chosen = {row["SK_ID_CURR"] for row in rows(output)}
    assert 30 < len(chosen) < 65
    assert chosen == {row["SK_ID_CURR"] for row in rows(tmp_path / "other")}
    assert chosen < {row["SK_ID_CURR"] for row in rows(tmp_path / "more")}
    assert summary.rows == len(chosen) + len(rejections(output)) == manifest(output)["rows"]


def test_a_sample_without_rows_is_refused(book, small, output):
    assert refused(book, output, small, ColumnsError, sample=0.0) == f"{book}: has no rows in the sample"


def test_too_many_rejected_rows_stop_the_job_before_its_end(book, small, output):
    told: list[int] = []
    said = refused(book, output, small, BatchError, part_rows=PART_ROWS, max_rejected=0.005, progress=told.append)
    why = f"{unfinished(output)}/_quarantine says why"
    assert said == f"{book}: 1 of 120 applications are rejected, more than the share 0.005 of --max-rejected; {why}"
    assert told == [PART_ROWS]
    assert [row["SK_ID_CURR"] for row in rejections(unfinished(output))] == [1007]
    told.clear()
    score_files(book, output, small, part_rows=PART_ROWS, max_rejected=0.04, progress=told.append)
    assert told == [PART_ROWS] * 6


def test_repeated_identifiers_in_different_parts_end_the_job_and_it_cannot_look_finished(small, output, tmp_path):
    source = parquet_of(tmp_path / "a.parquet", pa.array([*range(50), 3, None, 3]), group=10)
    for _ in range(2):
        said = refused(source, output, small, part_rows=10)
        assert said == f"{source}: identifiers must be present and unique: 1 missing, 2 repeated"
    assert not (unfinished(output) / "_manifest.json").exists()


def test_row_numbers_name_applicants_across_parts(small, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    write_csv(source / "a.csv", *({} for _ in range(3)), header=NAMES)
    with pytest.raises(ColumnsError, match="names the applicants"):
        score_files(source, tmp_path / "out", small)


def test_scratch_files_of_a_killed_process_are_gone_at_the_end(book, small, output):
    run_job(job_of(book, output, small, part_rows=PART_ROWS), InProcess(small), shard=Shard(0, 2))
    for name in (".part-00001.parquet-12ab", "_quarantine/.part-00001.parquet-12ab"):
        (unfinished(output) / name).write_bytes(b"half")
    score_files(book, output, small, part_rows=PART_ROWS)
    assert list(output.rglob(".*")) == []


@pytest.fixture
def locked(output: Path) -> Iterator[Path]:
    """An unfinished output that another process holds."""
    work = unfinished(output) / "_work"
    work.mkdir(parents=True)
    with (work / "job.lock").open("w") as file:
        assert take_lock(file, wait=False)
        yield output


def test_an_output_that_another_process_holds_is_refused(book, small, locked):
    assert refused(book, locked, small, OutputError) == f"{unfinished(locked)}: another job is writing it"
