"""Applications as literals and as files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from features.files import open_file
from features.transformer import Columns, FeatureState, FeatureTransformer
from tests.home_credit import APPLICATION, PORTFOLIO

Values = Mapping[str, Any]

ROOT = Path(__file__).resolve().parents[2]
NAMES = tuple(column.name for column in APPLICATION.stated)
REQUIRED: Values = {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_INCOME_TOTAL": 160_000.0, "AMT_CREDIT": 400_000.0}


def columns(*records: Values) -> Columns:
    """The records, with what is required where they do not say; None is missing. Nothing is checked."""
    numbers = np.full((len(records), len(APPLICATION.numeric)), np.nan)
    levels = np.full((len(records), len(APPLICATION.categorical)), None, dtype=object)
    for row, record in enumerate(records):
        for name, value in {**REQUIRED, **record}.items():
            target = numbers if APPLICATION[name].numeric else levels
            target[row, APPLICATION.position[name]] = value
    return Columns(numbers, levels, PORTFOLIO)


def state(*names: str, **learned: Any) -> FeatureState:
    """A state of these features; no category is known and nothing clipped unless `learned` says so."""
    vocabularies = {column.name: () for column in APPLICATION.categorical} | learned.get("vocabularies", {})
    return FeatureState(names=names, vocabularies=vocabularies, clip=learned.get("clip", {}), portfolio=PORTFOLIO)


def matrix(raw: Columns, *names: str, **learned: Any) -> NDArray[np.float64]:
    """The named features of `raw`."""
    return FeatureTransformer(state(*names, **learned)).transform(raw)


def bits(*arrays: NDArray[Any]) -> tuple[bytes, ...]:
    """What tells every value apart, one NaN or zero from another too."""
    return tuple(array.tobytes() for array in arrays)


def write_csv(path: Path, *records: Values, header: Sequence[str] = NAMES) -> Path:
    """A CSV file of the records, each with what is required; a column that a record lacks is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**REQUIRED, **record} for record in records)
    return path


def write_parquet(path: Path, rows: int, **given: pa.Array | pa.ChunkedArray) -> Path:
    """A Parquet file of `rows` applications; a column that is not given holds what is required, or null."""
    parquet.write_table(table(rows, **given), path)
    return path


def table(rows: int, **given: pa.Array | pa.ChunkedArray) -> pa.Table:
    """An Arrow table of `rows` applications; a column that is not given holds what is required, or null."""
    kinds = {column.name: pa.float64() if column.numeric else pa.string() for column in APPLICATION.stated}
    default = {name: pa.array([REQUIRED.get(name)] * rows, kind) for name, kind in kinds.items()}
    return pa.table(default | given)


def read(path: Path) -> Columns:
    """All rows of a file of fewer than 10,000 rows without a violation."""
    [batch] = open_file(path, PORTFOLIO).batches(10_000)
    assert [str(violation) for violation in batch.violations] == []
    return batch.columns


def generate(folder: Path, clients: int, file_format: Any = "csv") -> Path:
    """The labelled applications of some generated clients."""
    synthesize(folder, clients=clients, seed=5, tables=APPLICATIONS, file_format=file_format)
    return folder / f"application_train.{file_format}"
