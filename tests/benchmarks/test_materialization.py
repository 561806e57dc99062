"""Rolling up parts of a data folder: which rows a part has, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.cli import main
from benchmarks.errors import BenchmarkError
from benchmarks.materialization import write_part
from configs.portfolios.home_credit.generator.dataset import synthesize
from tests.features.histories import LENDER, write_histories
from tests.redis_server import needs_redis


def lender_data(folder: Path) -> Path:
    """Histories of anna, ben and cleo, and their applications."""
    write_histories(folder)
    clients = pa.table({"client": ["anna", "ben", "cleo", "dan"], "income": [1.0, 2.0, 3.0, 4.0]})
    parquet.write_table(clients, folder / f"{LENDER.declared.files.train}.parquet")
    return folder


def test_a_part_has_all_rows_of_its_clients_and_of_what_hangs_on_them(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    rows = write_part(lender_data(tmp_path / "data"), LENDER, pa.array(["anna", "ben"]), part)
    assert rows == 4 + 3
    assert parquet.read_table(part / "credits.parquet")["credit"].to_pylist() == ["1", "2", "3", "4"]
    assert parquet.read_table(part / "months.parquet")["credit"].to_pylist() == ["1", "1", "3"]
    train = parquet.read_table(part / f"{LENDER.declared.files.train}.parquet")
    assert train["client"].to_pylist() == ["anna", "ben"]


def test_a_table_of_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    data = lender_data(tmp_path / "data")
    (data / "months.parquet").unlink()
    (data / "months.csv").write_text("credit,month,late\n1,-1,0\n")
    with pytest.raises(BenchmarkError, match=r"months\.csv: is no Parquet file"):
        write_part(data, LENDER, pa.array(["anna"]), tmp_path)


@needs_redis
@pytest.mark.slow
def test_every_way_is_measured_and_kept_with_its_command(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "materialize.json"
    synthesize(data, clients=300, seed=1, file_format="parquet")
    arguments = ["--parts", "2", "--scratch", str(tmp_path), "--output", str(output)]
    assert main(["materialize", str(data), *arguments]) == 0
    found = json.loads(output.read_text())
    assert found["command"] == "python -m benchmarks materialize DIR --parts 2"
    measured = found["rolled_up"]
    assert [one["what"] for one in measured] == ["materialize, SQLite", "materialize, Redis", "features of training"]
    assert len({(one["clients"], one["rows"]) for one in measured}) == 1
    assert all(one["seconds"] > 0 and one["cpu_seconds"] > 0 and one["peak_mb"] > 0 for one in measured)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "materialize.json"], "a part was left behind"
