"""The parts that a batch job's applications are read in."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import FileError
from features.sources import ApplicationSource, open_source
from features.transformer import concatenate
from tests.features.examples import NAMES, bits, read, write_csv
from tests.home_credit import PORTFOLIO

HEADER = ("SK_ID_CURR", *NAMES)


def people(path: Path, first: int, last: int) -> Path:
    """A CSV file of applicants by their numbers."""
    records = [{"SK_ID_CURR": number, "AMT_CREDIT": number} for number in range(first, last + 1)]
    return write_csv(path, *records, header=HEADER)


def people_in_groups(path: Path, first: int, last: int, rows: int) -> Path:
    """A Parquet file of applicants by their numbers, in row groups of some rows."""
    from pyarrow import csv

    table = csv.read_csv(people(path.with_suffix(".csv"), first, last))
    path.with_suffix(".csv").unlink()
    parquet.write_table(table, path, row_group_size=rows)
    return path


def named(source: ApplicationSource, rows: int = 2) -> list[list[int]]:
    """The applicants of each part, by the identifier column."""
    found = []
    for part in source.parts:
        batches = part.batches(rows, PORTFOLIO, others=source.identifier.others)
        found.append([name for batch in batches for name in source.identifier.of(part, batch).to_pylist()])
    return found


def test_a_parquet_file_has_parts_of_neighbouring_row_groups(tmp_path):
    path = people_in_groups(tmp_path / "a.parquet", 1, 10, rows=2)
    source = open_source(str(path), PORTFOLIO, part_rows=5)
    assert named(source) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [part.rows for part in source.parts] == [4, 4, 2]
    assert source.rows == 10
    assert [batch.first_row for part in source.parts for batch in part.batches(3, PORTFOLIO)] == [0, 3, 4, 7, 8]
    whole = concatenate([batch.columns for part in source.parts for batch in part.batches(2, PORTFOLIO)])
    assert bits(whole.numbers) == bits(read(path).numbers)


def test_a_csv_file_is_one_part_whose_rows_are_not_known(tmp_path):
    source = open_source(str(people(tmp_path / "a.csv", 1, 9)), PORTFOLIO, part_rows=5)
    assert [part.rows for part in source.parts] == [None]
    assert source.rows is None
    assert named(source) == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]


def test_a_part_is_small_and_reads_the_same_elsewhere(tmp_path):
    source = open_source(str(people_in_groups(tmp_path / "a.parquet", 1, 4, rows=2)), PORTFOLIO, part_rows=2)
    sent = pickle.dumps(source.parts[1])
    assert len(sent) < 1_000
    [batch] = pickle.loads(sent).batches(9, PORTFOLIO, others=["SK_ID_CURR"])  # noqa: S301
    assert batch.others["SK_ID_CURR"].to_pylist() == [3, 4]


def test_a_part_that_has_changed_is_refused(tmp_path):
    source = open_source(str(people(tmp_path / "a.csv", 1, 2)), PORTFOLIO)
    people(tmp_path / "a.csv", 1, 3)
    with pytest.raises(FileError) as refusal:
        list(source.parts[0].batches(9, PORTFOLIO))
    assert str(refusal.value) == f"{tmp_path / 'a.csv'}: has changed since the job was planned"


def test_an_empty_parquet_file_is_one_part_without_rows(tmp_path):
    path = people_in_groups(tmp_path / "a.parquet", 1, 1, rows=1)
    parquet.write_table(pa.table(parquet.read_table(path)).slice(0, 0), path)
    source = open_source(str(path), PORTFOLIO)
    assert named(source) == [[]]
    assert source.rows == 0
