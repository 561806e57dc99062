"""The timing of trees: what is timed, and that it is refused where there is nothing to compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cli import main
from scoring.artefact import Artefact
from scoring.scorer import with_conformance


def test_margins_and_reasons_are_timed_alone_and_together(
    artefact: Artefact, labelled_csv: Path, tmp_path: Path
) -> None:
    artefact.write(tmp_path / "model")
    output = tmp_path / "trees.json"
    files = ["--model", str(tmp_path / "model"), "--applications", str(labelled_csv), "--output", str(output)]
    assert main(["trees", *files, "--rows", "20"]) == 0
    timings = json.loads(output.read_text())["timings"]
    assert {timing["batch"] for timing in timings} == {1, 16, 64, 1000}
    assert len({timing["what"] for timing in timings}) == 5
    assert min(timing["us"] for timing in timings) > 0


def test_a_model_without_reasons_is_refused(
    artefact: Artefact, labelled_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_conformance(replace(artefact, reasons=None)).write(tmp_path / "model")
    files = ["--model", str(tmp_path / "model"), "--applications", str(labelled_csv)]
    assert main(["trees", *files, "--output", str(tmp_path / "trees.json")]) == 1
    assert "or its portfolio declares no reasons" in capsys.readouterr().err
    assert not (tmp_path / "trees.json").exists()
