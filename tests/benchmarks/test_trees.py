"""The timing of trees and stages: what is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

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
    assert {timing["batch"] for timing in timings} == {1, 8, 16, 64, 1000, 10000}
    assert len({timing["what"] for timing in timings}) == 5
    assert min(timing["us"] for timing in timings) > 0


def test_of_a_model_without_reasons_the_margins_are_timed(
    artefact: Artefact, labelled_csv: Path, tmp_path: Path
) -> None:
    with_conformance(replace(artefact, reasons=None)).write(tmp_path / "model")
    output = tmp_path / "trees.json"
    files = ["--model", str(tmp_path / "model"), "--applications", str(labelled_csv), "--output", str(output)]
    assert main(["trees", *files, "--rows", "20"]) == 0
    timings = json.loads(output.read_text())["timings"]
    assert {timing["what"] for timing in timings} == {"margin", "margin, LightGBM"}


def test_the_stages_of_a_request_are_timed_for_one_application_and_for_a_batch(
    artefact: Artefact, labelled_csv: Path, tmp_path: Path
) -> None:
    artefact.write(tmp_path / "model")
    output = tmp_path / "stages.json"
    files = ["--model", str(tmp_path / "model"), "--applications", str(labelled_csv), "--output", str(output)]
    assert main(["stages", *files, "--rows", "20"]) == 0
    timings = json.loads(output.read_text())["timings"]
    stages = ["decode", "columns", "features", "trees", "decide", "encode", "all"]
    assert [timing["stage"] for timing in timings if timing["batch"] == 1] == stages
    assert [timing["stage"] for timing in timings if timing["batch"] == 20] == [*stages[:1], *stages[2:]]
