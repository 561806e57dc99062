"""Input and output of batch jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import ColumnsError
from features.sources import open_source
from jobs.destination import open_output
from scoring.engines import WHOLE, Engine, InProcess, Shard, run_job
from scoring.job import BatchJob, Summary
from scoring.part import CHUNK_ROWS, JobOptions
from scoring.store import StoredModel
from tests.features.examples import NAMES, table, write_csv


def book(path: Path, *, rows: int = 120, part: int = 20) -> Path:
    """Parts of so many applicants each, of whom one in thirty breaks a rule."""
    credit = pa.array([-1.0 if row % 30 == 7 else 400_000.0 + row for row in range(rows)])
    sources = pa.array([None if row % 3 else row / rows for row in range(rows)], pa.float64())
    whole = table(rows, AMT_CREDIT=credit, EXT_SOURCE_2=sources)
    whole = whole.append_column("SK_ID_CURR", pa.array(range(1000, 1000 + rows)))
    branches = pa.array([f"branch {row % 4}" for row in range(rows)]).dictionary_encode()
    parquet.write_table(whole.append_column("BRANCH", branches), path, row_group_size=part)
    return path


def job_of(
    source: Path | str,
    output: Path | str,
    model: StoredModel,
    *,
    reference: str = "none:1",
    part_rows: int = 500_000,
    chunk_rows: int = CHUNK_ROWS,
    max_rejected: float = 1.0,
    database: str | None = None,
    into: str | None = None,
    query: str | None = None,
    **options: Any,
) -> BatchJob:
    """A job that is not begun."""
    found = open_source(str(source), model.scorer.artefact.portfolio, part_rows=part_rows, query=query)
    place, chosen = open_output(str(output)), JobOptions(**options)
    return BatchJob(found, model, reference, place, chosen, chunk_rows, max_rejected, database, into)


def score_files(
    source: Path | str,
    output: Path | str,
    model: StoredModel,
    *,
    engine: Engine | None = None,
    shard: Shard = WHOLE,
    progress: Callable[[int], object] = lambda _: None,
    **options: Any,
) -> Summary:
    """The summary of a job that is run in this process."""
    job = job_of(source, output, model, **options)
    summary = run_job(job, engine or InProcess(model), shard=shard, advance=progress)
    assert summary is not None
    return summary


def manifest(folder: Path) -> dict[str, Any]:
    """What a finished output says of itself."""
    return dict(json.loads((folder / "_manifest.json").read_text()))


def files(folder: Path) -> dict[str, bytes]:
    """The data files of an output by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def parts(folder: Path) -> list[pa.Table]:
    """The decisions of each part."""
    return [parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))]


def rows(folder: Path) -> list[dict[str, Any]]:
    """All decisions."""
    return pa.concat_tables(parts(folder)).to_pylist()


def rejections(folder: Path) -> list[dict[str, Any]]:
    """All rows of the quarantine."""
    return [row for part in parts(folder / "_quarantine") for row in part.to_pylist()]


def people(path: Path, *ids: Any, identifier: str = "SK_ID_CURR", **values: Any) -> Path:
    """A file of one kind of applicant under these identifiers."""
    header = (identifier, *NAMES)
    return write_csv(path, *({identifier: name, **values} for name in ids), header=header)


def parquet_of(path: Path, ids: pa.Array, identifier: str = "SK_ID_CURR", *, group: int | None = None) -> Path:
    """A Parquet file of applicants under these identifiers."""
    parquet.write_table(table(len(ids)).add_column(0, identifier, ids), path, row_group_size=group)
    return path


def refused(
    source: Path, output: Path, model: StoredModel, error: type[Exception] = ColumnsError, **options: Any
) -> str:
    """Why the job is refused; no output may be there."""
    with pytest.raises(error) as caught:
        score_files(source, output, model, **options)
    assert not output.exists()
    return str(caught.value)
