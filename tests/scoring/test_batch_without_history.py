"""Rows of a batch job whose client's history is not known: refused, or left to a model of the application alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from features.sources import open_source
from features.transformer import Columns
from jobs.destination import open_output
from scoring.artefact import Artefact
from scoring.cli import main
from scoring.engines import Engine, InProcess, ProcessPool, Shard, end_job, run_job
from scoring.errors import BatchError
from scoring.histories import ApplicationOnly, JobHistories
from scoring.job import BatchJob, JobPlan, Summary
from scoring.part import JobOptions
from scoring.scorer import with_conformance
from tests.features.histories import LENDER
from tests.scoring.history_models import model, second, second_artefact
from tests.scoring.jobs import files, manifest, rows
from tests.scoring.test_batch_histories import CLIENTS, PART_ROWS, SOURCES, arguments, fill_all, looked_up, write

WITHOUT = [client for client, source in zip(CLIENTS, SOURCES, strict=True) if source != "store"]
INCOMES = [1_000.0, 700_000.0, 2_000.0, 300_000.0, 3_000.0, 4_000.0]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return fill_all(f"sqlite:///{tmp_path}/features.sqlite")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three parts of two applicants each; every part has one without a history."""
    return write(tmp_path / "book.parquet", [*CLIENTS], income=INCOMES)


@pytest.fixture
def alone(tmp_path: Path) -> ApplicationOnly:
    """The second model, in a folder of its own."""
    second_artefact().write(tmp_path / "second")
    found = second()
    digest = found.scorer.artefact.digest
    return ApplicationOnly(f"lender:{found.version}", found.version, digest, str(tmp_path / "second"))


def job_of(source: Path, output: Path, histories: JobHistories, *, reference: str = "", **options: Any) -> BatchJob:
    chunk_rows, found = options.pop("chunk_rows", 8_192), open_source(str(source), LENDER, part_rows=PART_ROWS)
    place, chosen = open_output(str(output)), JobOptions(**options)
    return BatchJob(found, model(), reference, place, chosen, chunk_rows, histories=histories)


def score(
    job: BatchJob, *, engine: Engine | None = None, progress: Callable[[int], object] = lambda _: None
) -> Summary:
    summary = run_job(job, engine or InProcess(model()), advance=progress)
    assert summary is not None
    return summary


def refused(output: Path) -> list[tuple[str, list[dict[str, str]]]]:
    """Names and broken rules of the rows in quarantine."""
    tables = [parquet.read_table(path) for path in sorted((output / "_quarantine").glob("*.parquet"))]
    return [(row["client"], row["errors"]) for table in tables for row in table.to_pylist()]


def test_refused_rows_are_in_quarantine_with_the_reason(store: str, source: Path, output: Path) -> None:
    summary = score(job_of(source, output, replace(looked_up(store), refuse=True)))
    assert [(row["client"], row["history"]) for row in rows(output)] == [
        ("anna", "store"), ("ben", "store"), ("cleo", "store"),
    ]  # fmt: skip
    missing, stale = ([{"column": "history", "rule": rule}] for rule in ("must be known", "must be up to date"))
    assert refused(output) == [("nobody", missing), ("old", stale), ("foreign", stale)]
    assert (summary.scored, summary.rejected, summary.histories) == (3, 3, {"store": 3})
    assert summary.broken_rules == {"history: must be up to date": 2, "history: must be known": 1}


def test_a_row_that_breaks_a_rule_is_refused_for_that_alone(store: str, output: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("client,income\nanna,2000\nnobody,-1\n")
    score(job_of(source, output, replace(looked_up(store), refuse=True)))
    [(client, errors)] = refused(output)
    assert (client, [one["column"] for one in errors]) == ("nobody", ["income"])


def test_rows_that_state_their_roll_ups_are_never_refused(output: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", ["nobody", "anna"], open_debt=[5.0, None])
    score(job_of(source, output, JobHistories(refuse=True)))
    assert [row["client"] for row in rows(output)] == ["nobody"]


def test_only_rows_of_the_limit_are_refused(store: str, source: Path, output: Path) -> None:
    summary = score(job_of(source, output, replace(looked_up(store), refuse=True), limit=3))
    assert (summary.rows, summary.scored, [client for client, _ in refused(output)]) == (3, 2, ["nobody"])


def test_a_second_model_decides_where_no_history_is_known(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    histories = looked_up(store)
    summary = score(job_of(source, output, replace(histories, application_only=alone)))
    score(job_of(source, tmp_path / "one", histories))
    found, by_one = rows(output), rows(tmp_path / "one")
    assert [row["client"] for row in found] == CLIENTS
    assert [row["history"] for row in found] == SOURCES
    versions = {"store": model().version, "missing": second().version, "stale": second().version}
    assert [row["model_version"] for row in found] == [versions[source] for source in SOURCES]
    for row, other in zip(found, by_one, strict=True):
        assert (row == other) is (row["history"] == "store")
    numbers = np.full((6, len(LENDER.schema.numeric)), np.nan)
    numbers[:, LENDER.schema.position["income"]] = INCOMES
    expected = second().scorer.score(Columns(numbers, np.empty((6, 0), dtype=object), LENDER)).probability.tolist()
    without = [row != "store" for row in SOURCES]
    assert [row["probability"] for row, its in zip(found, without, strict=True) if its] == [
        probability for probability, its in zip(expected, without, strict=True) if its
    ]
    assert (summary.rows, summary.scored, summary.rejected) == (6, 6, 0)
    assert summary.histories == {"missing": 1, "stale": 2, "store": 3}


def test_a_row_that_breaks_a_rule_is_no_models(
    store: str, output: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    source = tmp_path / "a.csv"
    source.write_text("client,income\nnobody,2000\nanna,-1\nold,-1\nben,2000\n")
    summary = score(job_of(source, output, replace(looked_up(store), application_only=alone)))
    assert [row["client"] for row in rows(output)] == ["nobody", "ben"]
    assert (summary.rows, summary.scored, summary.rejected) == (4, 2, 2)
    assert [client for client, _ in refused(output)] == ["anna", "old"]


@pytest.mark.parametrize("refuse", [True, False])
def test_the_files_are_the_same_whatever_the_chunks_and_after_an_interruption(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly, refuse: bool
) -> None:
    histories = replace(looked_up(store), refuse=refuse, application_only=None if refuse else alone)
    score(job_of(source, output, histories))
    score(job_of(source, tmp_path / "chunks", histories, chunk_rows=1))
    assert files(tmp_path / "chunks") == files(output)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(job_of(source, tmp_path / "again", histories), progress=interrupt)
    score(job_of(source, tmp_path / "again", histories))
    assert files(tmp_path / "again") == files(output)


def test_shards_of_machines_with_other_folders_are_one_job(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    histories = replace(looked_up(store), application_only=alone)
    score(job_of(source, tmp_path / "whole", histories))
    second_artefact().write(tmp_path / "elsewhere")
    other = replace(histories, application_only=replace(alone, reference=str(tmp_path / "elsewhere")))
    assert run_job(job_of(source, output, histories), InProcess(model()), shard=Shard(0, 2)) is None
    assert run_job(job_of(source, output, other), InProcess(model()), shard=Shard(1, 2)) is not None
    assert files(output) == files(tmp_path / "whole")
    assert end_job(job_of(source, output, histories)).scored == 6


@pytest.mark.slow
def test_processes_load_the_second_model_themselves(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    histories = replace(looked_up(store), application_only=alone)
    score(job_of(source, output, histories))
    model().scorer.artefact.write(tmp_path / "model")
    job = job_of(source, tmp_path / "two", histories, reference=str(tmp_path / "model"))
    score(job, engine=ProcessPool(2))
    assert files(tmp_path / "two") == files(output)


def test_the_plan_names_what_becomes_of_the_rows_and_another_is_another_job(
    store: str, source: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    histories = looked_up(store)
    chosen = {
        "score": histories,
        "refuse": replace(histories, refuse=True),
        alone.model: replace(histories, application_only=alone),
    }
    for done, begun in chosen.items():
        place = tmp_path / done
        score(job_of(source, place, begun))
        for asked, other in chosen.items():
            if asked == done:
                assert score(job_of(source, place, other)).rows == 6
                continue
            with pytest.raises(BatchError) as caught:
                score(job_of(source, place, other))
            said = f"{place}: holds the result of --without-history {done}, not {asked}; name another output"
            assert str(caught.value).startswith(said)
    planned = manifest(tmp_path / alone.model)["plan"]["histories"]["application_only"]
    assert planned == {"model": alone.model, "version": alone.version, "digest": alone.digest, "reference": ""}
    assert str(tmp_path / "second") not in (tmp_path / alone.model / "_manifest.json").read_text()


def test_a_plan_that_says_nothing_of_them_scores(store: str, source: Path, output: Path) -> None:
    score(job_of(source, output, looked_up(store)))
    path = output / "_manifest.json"
    told = json.loads(path.read_text())
    for name in ("refuse", "application_only"):
        del told["plan"]["histories"][name]
    assert JobPlan.from_dict(told["plan"]).histories == looked_up(store).planned


def test_the_command_takes_the_second_model(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly, capsys: pytest.CaptureFixture[str]
) -> None:
    model().scorer.artefact.write(tmp_path / "model")
    asked = arguments(source, output, tmp_path / "model", "--store", store, "--without-history", alone.reference)
    assert main([*asked, "--dry-run"]) == 0
    assert "of the first 6 rows, 6 are scored and 0 rejected" in capsys.readouterr().out
    assert not output.exists()
    assert main(asked) == 0
    versions = [row["model_version"] for row in rows(output)]
    assert [version == versions[0] for version in versions] == [source == "store" for source in SOURCES]
    assert versions[1].endswith(alone.digest[:32])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: model().scorer.artefact, "it reads the histories credits"),
        (
            lambda: with_conformance(replace(second_artefact(), reasons=None)),
            "it gives no reasons, and the champion does",
        ),
    ],
)
def test_a_model_that_cannot_decide_without_a_history_is_one_line(
    store: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made: Callable[[], Artefact],
    said: str,
) -> None:
    made().write(tmp_path / "wrong")
    chosen = ("--store", store, "--without-history", f"{tmp_path}/wrong")
    model().scorer.artefact.write(tmp_path / "model")
    assert main(arguments(source, tmp_path / "out", tmp_path / "model", *chosen)) == 1
    where = f"--without-history: {tmp_path}/wrong cannot decide without a history"
    assert capsys.readouterr().err == f"error: {where}: {said}\n"
    assert not [*tmp_path.glob("out*")]


def test_another_model_in_its_folder_ends_the_job(
    store: str, source: Path, output: Path, tmp_path: Path, alone: ApplicationOnly
) -> None:
    other = replace(alone, digest="0" * 64)
    with pytest.raises(BatchError, match="is not the model that the job was planned with"):
        score(job_of(source, output, replace(looked_up(store), application_only=other)))
