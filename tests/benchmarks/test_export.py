"""The measure of the exported scorer: what it writes, and that a difference shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.errors import BenchmarkError
from benchmarks.export import agreement_of
from scoring.artefact import Artefact
from scoring.export import RESULTS


def test_every_database_is_compared_and_timed(
    artefact: Artefact, postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact.write(tmp_path / "model")
    output = tmp_path / "export.json"
    words = ["export", "--model", str(tmp_path / "model"), "--output", str(output), "--rows", "300"]
    assert main([*words, "--postgresql", postgresql]) == 0
    found = json.loads(output.read_text())
    assert (found["trees"], found["most_leaves"]) == (20, 7)
    assert found["command"] == "python -m benchmarks export --model DIR --rows 300 --postgresql ADDRESS"
    assert [one["database"].split()[0] for one in found["databases"]] == ["DuckDB", "PostgreSQL", "PostgreSQL"]
    for one in found["databases"]:
        agreement = one["agreement"]
        assert (agreement["rows"], agreement["different"], agreement["margin"]) == (300, {}, 0)
        assert agreement["rejected"] < 300
    assert capsys.readouterr().out.count("different: nothing") == 3


def test_a_difference_is_counted_by_result() -> None:
    expected = {name: [None, 1.0] for name in RESULTS} | {"status": ["rejected", "scored"]}
    found = expected | {"decision": [None, 2.0], "margin": [None, 1.5], "probability": [0.5, 1.0]}
    agreement = agreement_of(found, expected)
    assert (dict(agreement.different), agreement.margin, agreement.probability) == ({"decision": 1}, 0.5, float("inf"))
    assert (agreement.rows, agreement.rejected) == (2, 1)


def test_other_rows_are_no_agreement() -> None:
    expected = {name: ["a", "b"] for name in RESULTS}
    with pytest.raises(BenchmarkError, match="other rows"):
        agreement_of(expected | {"score": ["a"]}, expected)
