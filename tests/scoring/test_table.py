"""Tables in memory, as a task of Spark hands them over."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from features.errors import ColumnsError
from features.transformer import Columns
from scoring.batch import DECISIONS, TableScorer, table_scorer
from scoring.store import StoredModel
from tests.features.examples import table

IDS = pa.array([7, 8, 9])


def three(**given: pa.Array) -> pa.Table:
    """Three applications with identifiers; the second asks for a credit of 0."""
    credit = pa.array([400_000.0, 0.0, 500_000.0])
    return table(3, AMT_CREDIT=credit, **given).append_column("SK_ID_CURR", IDS)


@pytest.fixture
def scoring(small: StoredModel) -> TableScorer:
    return TableScorer(small, carry=("SK_ID_CURR",))


@pytest.mark.parametrize("rows", [1, 37, 400])
def test_every_row_is_decided_with_the_bits_of_the_scorer_however_the_table_is_cut(
    labelled_csv: Path, applications: Columns, small: StoredModel, rows: int
) -> None:
    read = csv.read_csv(labelled_csv)
    scorer = TableScorer(small)
    found = pa.Table.from_batches([scorer.score(batch) for batch in read.to_batches(max_chunksize=rows)])
    assert found.schema == DECISIONS
    assert found.num_rows == 400
    scores = small.scorer.score(applications)
    assert found["probability"].to_numpy().tobytes() == scores.probability.tobytes()
    assert found["decision"].to_pylist() == scores.decision.tolist()
    assert found["reason_1"].to_pylist() == [row[0].code if row else None for row in scores.reasons]


def test_a_row_that_breaks_a_rule_is_rejected_in_its_place(scoring: TableScorer) -> None:
    first, second, third = scoring.score(three()).to_pylist()
    assert [row["status"] for row in (first, second, third)] == ["scored", "rejected", "scored"]
    assert [row["SK_ID_CURR"] for row in (first, second, third)] == [7, 8, 9]
    assert [error["column"] for error in second["errors"]] == ["AMT_CREDIT"]
    assert {name for name, value in second.items() if value is not None} == {"SK_ID_CURR", "status", "errors"}
    assert first["errors"] is None
    assert third["probability"] == scoring.score(three().slice(2)).to_pylist()[0]["probability"]


def test_carried_columns_keep_their_type_and_stand_in_front(small: StoredModel) -> None:
    more = three().append_column("branch", pa.array([b"a", None, b"c"]))
    found = TableScorer(small, carry=("branch", "AMT_CREDIT")).score(more)
    assert found.schema == pa.schema([("branch", pa.binary()), ("AMT_CREDIT", pa.float64()), *DECISIONS])
    assert found["branch"].to_pylist() == [b"a", None, b"c"]


@pytest.mark.parametrize("credit", [[], [0.0], [0.0, 0.0]], ids=["no rows", "one", "all"])
def test_a_table_of_which_nothing_can_be_scored(small: StoredModel, credit: list[float]) -> None:
    found = TableScorer(small).score(table(len(credit), AMT_CREDIT=pa.array(credit, pa.float64())))
    assert found.schema == DECISIONS
    assert found["status"].to_pylist() == ["rejected"] * len(credit)


def test_absent_columns_are_named(scoring: TableScorer) -> None:
    with pytest.raises(ColumnsError, match=r"^column missing: AMT_CREDIT$"):
        scoring.score(three().drop_columns(["AMT_CREDIT"]))
    with pytest.raises(ColumnsError, match=r"^column missing: SK_ID_CURR$"):
        scoring.score(table(2))
    with pytest.raises(ColumnsError, match=r"and \d+ more$"):
        scoring.score(pa.table({"SK_ID_CURR": [1]}))


def test_a_process_loads_a_model_once(small: StoredModel, tmp_path: Path) -> None:
    folder = tmp_path / "small" / small.version
    small.scorer.artefact.write(folder)
    scorer = table_scorer(str(folder), carry=("SK_ID_CURR",))
    assert scorer is table_scorer(str(folder), carry=("SK_ID_CURR",))
    assert scorer.score(three()).equals(TableScorer(small, carry=("SK_ID_CURR",)).score(three()))
    assert scorer.model.version == small.version
