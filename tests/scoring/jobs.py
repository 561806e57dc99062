"""Input and output of batch jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import ColumnsError
from scoring.batch import score_files
from scoring.store import StoredModel
from tests.features.examples import NAMES, table, write_csv


def parts(folder: Path) -> list[pa.Table]:
    return [parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))]


def rows(folder: Path) -> list[dict[str, Any]]:
    return pa.concat_tables(parts(folder)).to_pylist()


def people(path: Path, *ids: Any, identifier: str = "SK_ID_CURR", **values: Any) -> Path:
    """A file of one kind of applicant under these identifiers."""
    header = (identifier, *NAMES)
    return write_csv(path, *({identifier: name, **values} for name in ids), header=header)


def parquet_of(path: Path, ids: pa.Array, identifier: str = "SK_ID_CURR") -> Path:
    parquet.write_table(table(len(ids)).add_column(0, identifier, ids), path)
    return path


def refused(
    source: Path, output: Path, model: StoredModel, error: type[Exception] = ColumnsError, **options: Any
) -> str:
    """Why the job is refused; nothing may be written."""
    with pytest.raises(error) as caught:
        score_files(source, output, model, **options)
    assert not output.exists()
    return str(caught.value)
