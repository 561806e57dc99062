"""`python -m monitoring drift` on files, where the model reads histories: what a file does not hold is not drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from monitoring.cli import main
from tests.features.histories import FOLDER, LENDER
from tests.portfolios.test_portfolio import artefact_of, dataset_of, load
from tests.server import ROOT

Said = pytest.CaptureFixture[str]
ROLL_UPS = ["credits_90d", "credits_365d", "open_debt", "late_credits"]
NOT_JUDGED = "not judged, since a file does not state the roll-ups that they read: 5 features"


@pytest.fixture
def model(tmp_path: Path) -> str:
    artefact_of(FOLDER).write(tmp_path / "model")
    return str(tmp_path / "model")


def applications(path: Path, without: list[str], **changed: Any) -> str:
    """The rows of the reference, without some columns."""
    numbers = dataset_of(load(FOLDER)).columns.numbers
    columns = {one.name: pa.array(numbers[:, i], from_pandas=True) for i, one in enumerate(LENDER.schema.numeric)}
    kept = {name: column for name, column in columns.items() if name not in without}
    parquet.write_table(pa.table(kept | changed), path)
    return str(path)


def drift(model: str, current: str, *options: str) -> int:
    settings = str(ROOT / "configs" / "monitoring.yaml")
    return main(["drift", "--model", model, "--current", current, "--settings", settings, *options])


def test_roll_ups_that_a_file_does_not_state_are_said_to_be_not_judged(
    model: str, tmp_path: Path, capsys: Said
) -> None:
    current, found = applications(tmp_path / "raw.parquet", ROLL_UPS), tmp_path / "found.json"
    assert drift(model, current, "--json", str(found)) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "judged" in line] == [f"{NOT_JUDGED} and the score"]
    assert [line for line in said if line.startswith(("open_debt", "debt_to_income"))] == []
    assert [line for line in said if "missing in every row" in line] == []
    told = json.loads(found.read_text())
    assert [one["name"] for one in told["features"]] == ["income"]
    assert told["not_stated"] == [*ROLL_UPS, "debt_to_income"]
    assert told["score"]["partial"] is True


def test_columns_of_the_application_raise_the_alarm_all_the_same(model: str, tmp_path: Path, capsys: Said) -> None:
    income = np.random.default_rng(1).uniform(0, 1_000, 600)
    assert drift(model, applications(tmp_path / "raw.parquet", ROLL_UPS, income=income)) == 3
    said = capsys.readouterr().out
    assert "major drift of 1 feature;" in said
    assert "the score has" not in said


def test_only_what_reads_an_absent_roll_up_is_left_out(model: str, tmp_path: Path, capsys: Said) -> None:
    assert drift(model, applications(tmp_path / "some.parquet", ["open_debt"])) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "judged" in line] == [f"{NOT_JUDGED.replace('5', '2')} and the score"]
    assert {line.split()[0] for line in said if line.startswith(tuple(ROLL_UPS))} == {*ROLL_UPS} - {"open_debt"}


def test_a_file_that_states_its_roll_ups_is_judged_as_a_whole(model: str, tmp_path: Path, capsys: Said) -> None:
    whole = applications(tmp_path / "whole.parquet", [])
    assert drift(model, whole, "--reference", whole) == 0
    assert "judged" not in capsys.readouterr().out
    nothing = {name: pa.nulls(600, pa.float64()) for name in ROLL_UPS}
    assert drift(model, applications(tmp_path / "empty.parquet", [], **nothing), "--reference", whole) == 3
    said = capsys.readouterr().out
    assert "major drift of 5 features" in said
    assert f"missing in every row: {', '.join(ROLL_UPS)}" in said


@pytest.mark.parametrize(
    ("reference", "current", "judged"), [(ROLL_UPS, ROLL_UPS, ""), (ROLL_UPS, [], " and the score")]
)
def test_the_score_is_judged_where_both_files_lack_the_same(
    model: str, tmp_path: Path, capsys: Said, reference: list[str], current: list[str], judged: str
) -> None:
    base = applications(tmp_path / "reference.parquet", reference)
    assert drift(model, applications(tmp_path / "current.parquet", current), "--reference", base) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "judged" in line] == [f"{NOT_JUDGED}{judged}"]
