"""Files of histories: what is read of them, what is refused, and that the roll-ups are those of the same rows."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from features import history_files as module
from features.errors import ColumnsError, FeatureError, FileError, SchemaError
from features.history_files import HistoryFolder, roll_up_folder
from features.portfolio import Portfolio
from features.rollups import HistoryRows, roll_up
from jobs.commandline import Progress

HISTORIES: dict[str, Any] = {
    "loans": {
        "file": "old_loans",
        "id": "loan",
        "time": {"column": "opened"},
        "columns": {
            "opened": {"kind": "count", "high": 0, "low": -9000},
            "debt": {"kind": "number", "low": 0, "missing": [-1]},
            "state": {"kind": "category", "levels": ["active", "closed", "none"], "missing": ["?"]},
            "grade": {"kind": "category", "levels": [1, 2]},
        },
        "rollups": {
            "loans": {"aggregate": "count"},
            "active": {"aggregate": "count", "where": 'state == "active"'},
            "debt": {"aggregate": "sum", "of": "debt"},
            "grade_2": {"aggregate": "share", "of": 'grade == "2"'},
            "worst": {"aggregate": "max", "of": "late"},
        },
    },
    "balances": {
        "parent": "loans",
        "time": {"column": "month", "unit": "months"},
        "columns": {"month": {"kind": "count"}, "days_late": {"kind": "count", "required": True}},
        "rollups": {"late": {"aggregate": "max", "of": "days_late"}},
    },
}


def portfolio(identity: str = "whole", **changes: Any) -> Portfolio:
    return Portfolio.of({
        "name": "lender",
        "identity": {"column": "client", "kind": identity},
        "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
        "columns": {"income": {"kind": "number"}},
        "histories": HISTORIES,
        **changes,
    })  # fmt: skip


LENDER = portfolio()
LOANS = """client,loan,opened,debt,state,grade,note
1,11,-10,5.5,active,1,x
1,12,-20,-1,none,2.0,x
2,21,-30,7,sold,2,x
1,13,-40,,?,,x
3,31,-50,1,NA,3,x
"""
BALANCES = "loan,month,days_late\n11,-1,3\n11,-2,9\n21,0,1\n31,-1,4\n99,-1,8\n"
EXPECTED = {
    "balances": HistoryRows(
        np.array([[-1.0, -2, 0, -1, -1], [3, 9, 1, 4, 8]]), np.array([11, 11, 21, 31, 99])
    ),
    "loans": HistoryRows(
        np.array([
            [-10, -20, -30, -40, -50],
            [5.5, -1, 7, np.nan, 1],
            [0, 2, 3, np.nan, np.nan],
            [0, 1, 1, np.nan, 2],
        ]),
        np.array([1, 1, 2, 1, 3]),
        np.array([11, 12, 21, 13, 31]),
    ),
}  # fmt: skip


def folder(path: Path, loans: str = LOANS, balances: str = BALANCES) -> Path:
    (path / "old_loans.csv").write_text(loans, encoding="utf-8")
    (path / "balances.csv").write_text(balances, encoding="utf-8")
    return path


def rolled(data: Path, *clients: Any, lender: Portfolio = LENDER) -> NDArray[np.float64]:
    kind = np.int64 if isinstance(clients[0], int) else np.object_
    return roll_up_folder(data, lender, np.array(clients, dtype=kind), progress=Progress(quiet=True))


def expected(*clients: int) -> NDArray[np.float64]:
    assert LENDER.histories is not None
    return roll_up(LENDER.histories, EXPECTED, np.array(clients))


def test_only_declared_columns_are_read_and_categories_are_positions_of_levels(tmp_path):
    opened = HistoryFolder.open(folder(tmp_path), LENDER)
    for history in opened.histories.tables:
        rows, wanted = opened.read(history, np.array([1, 2, 3, 11, 21, 31, 99])), EXPECTED[history.name]
        assert rows.keys.tolist() == wanted.keys.tolist()
        assert np.array_equal(rows.values, wanted.values, equal_nan=True)
        assert (rows.ids is None) == (wanted.ids is None)
        assert rows.ids is None or rows.ids.tolist() == EXPECTED["loans"].ids.tolist()


def test_the_roll_ups_of_files_are_those_of_the_same_rows(tmp_path):
    assert rolled(folder(tmp_path), 3, 1, 7, 2).tobytes() == expected(3, 1, 7, 2).tobytes()
    assert np.array_equal(expected(1), [[3.0, 1.0, 5.5, 0.5, 9.0]])


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_packed_files_give_the_same_bits(tmp_path, packing):
    suffix = {"gzip": "gz", "zstd": "zst"}[packing]
    for name, text in (("old_loans", LOANS), ("balances", BALANCES)):
        with pa.CompressedOutputStream(str(tmp_path / f"{name}.csv.{suffix}"), packing) as stream:
            stream.write(text.encode())
    assert rolled(tmp_path, 1, 2, 3).tobytes() == expected(1, 2, 3).tobytes()


def test_parquet_gives_the_same_bits(tmp_path):
    loans = {
        "client": pa.array([1, 1, 2, 1, 3]),
        "loan": pa.array([11, 12, 21, 13, 31], pa.int32()),
        "opened": pa.array([-10.0, -20, -30, -40, -50]),
        "debt": pa.array([5.5, -1, 7, None, 1], pa.float32()),
        "state": pa.array(["active", "none", "sold", None, "NA"]).dictionary_encode(),
        "grade": pa.array([1, 2, 2, None, 3]),
    }
    balances = {
        "loan": pa.array([11, 11, 21, 31, 99]),
        "month": pa.array([-1, -2, 0, -1, -1], pa.int8()),
        "days_late": pa.array([3, 9, 1, 4, 8]),
    }
    parquet.write_table(pa.table(loans), tmp_path / "old_loans.parquet", row_group_size=2)
    parquet.write_table(pa.table(balances), tmp_path / "balances.parquet")
    assert rolled(tmp_path, 1, 2, 3).tobytes() == expected(1, 2, 3).tobytes()


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_and_passes_over_a_large_file_change_no_bit(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(module, "_BATCH", batch)
    monkeypatch.setattr(module, "_AT_ONCE", 100)
    assert rolled(folder(tmp_path), 3, 1, 7, 2).tobytes() == expected(3, 1, 7, 2).tobytes()


def test_clients_may_have_texts_for_names(tmp_path):
    loans = LOANS.replace("\n1,", "\na1,").replace("\n2,", "\nb2,").replace("\n3,", "\nc3,")
    found = rolled(folder(tmp_path, loans), "c3", "a1", "1", "b2", lender=portfolio("text"))
    assert found.tobytes() == expected(3, 1, 7, 2).tobytes()


def test_only_rows_of_the_wanted_clients_are_kept(tmp_path):
    opened = HistoryFolder.open(folder(tmp_path), LENDER)
    rows = opened.read(opened.histories.tables[1], np.array([2, 3, 4]))
    assert (rows.keys.tolist(), rows.values[0].tolist()) == ([2, 3], [-30.0, -50.0])


def test_files_without_rows_are_histories_of_nothing(tmp_path):
    data = folder(tmp_path, LOANS.splitlines()[0] + "\n", BALANCES.splitlines()[0] + "\n")
    assert np.array_equal(rolled(data, 1), [[0.0, 0.0, np.nan, np.nan, np.nan]], equal_nan=True)


def refused(data: Path, kind: type[FeatureError], lender: Portfolio = LENDER) -> str:
    with pytest.raises(kind) as error:
        rolled(data, 1, 2, 3, lender=lender)
    return str(error.value).replace(f"{data}/", "")


def test_a_folder_without_any_of_the_files_is_refused(tmp_path):
    folder(tmp_path)
    for name in ("old_loans", "balances"):
        (tmp_path / f"{name}.csv").unlink()
    assert refused(tmp_path, FileError).startswith(f"{tmp_path}: no file of histories: ")


def test_two_files_of_one_table_are_refused(tmp_path):
    (folder(tmp_path) / "balances.csv.gz").write_bytes(gzip.compress(BALANCES.encode()))
    assert refused(tmp_path, FileError) == f"{tmp_path}: both balances.csv and balances.csv.gz"


def test_a_file_that_is_damaged_is_named(tmp_path):
    (folder(tmp_path) / "balances.csv").write_bytes(b"")
    assert refused(tmp_path, FileError) == "balances.csv: is empty"


def test_a_portfolio_without_histories_is_refused(tmp_path):
    assert refused(tmp_path, SchemaError, portfolio(histories={})) == "lender: the portfolio declares no histories"


MISSPELT = "in another case, or with blanks around the name, it has debt"
BROKEN = "opened must be a whole number (2 rows), "
OUTSIDE = "opened must be between -9000 and 0 (1 row)"


@pytest.mark.parametrize(
    ("loans", "balances", "told"),
    [
        (LOANS.replace("debt", "Debt"), BALANCES, "old_loans.csv: column missing: debt; " + MISSPELT),
        (LOANS.replace("-20", "20"), BALANCES, "old_loans.csv: " + OUTSIDE),
        (LOANS.replace("-20", "2.5").replace("-30", "-0.5"), BALANCES, "old_loans.csv: " + BROKEN + OUTSIDE),
        (LOANS.replace("5.5", "much"), BALANCES, "old_loans.csv: debt must be a number (1 row)"),
        (LOANS.replace("5.5", "inf"), BALANCES, "old_loans.csv: debt must be finite (1 row)"),
        (LOANS.replace("\n2,21", "\n,21"), BALANCES, "old_loans.csv: client must be a whole number (1 row)"),
        (LOANS.replace("\n2,21", "\n2,b"), BALANCES, "old_loans.csv: loan must be a whole number (1 row)"),
        (LOANS, BALANCES.replace("-2,9", "-2,"), "balances.csv: days_late is required (1 row)"),
    ],
)  # fmt: skip
def test_what_breaks_the_declaration_is_told_in_one_line_without_a_value(tmp_path, loans, balances, told):
    assert refused(folder(tmp_path, loans, balances), ColumnsError) == told


def test_progress_tells_which_table_is_read(tmp_path):
    told = io.StringIO()
    roll_up_folder(folder(tmp_path), LENDER, np.array([1]), progress=Progress(told))
    assert [line for line in told.getvalue().splitlines() if line.endswith("...")] == ["loans ...", "balances ..."]
